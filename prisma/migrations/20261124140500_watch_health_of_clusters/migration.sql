-- Registrations of clusters can be changed and verified anew, and workers look whether the clusters answer.
set local role cdaas_owner;

-- AlterTable
ALTER TABLE "cluster" ADD COLUMN     "access_version" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "findings" JSONB,
ADD COLUMN     "mesh_detected" TEXT,
ADD COLUMN     "mesh_setting" TEXT;

-- CreateTable
CREATE TABLE "cluster_health" (
    "cluster_id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "state" TEXT NOT NULL DEFAULT 'unknown',
    "since" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "checked_at" TIMESTAMPTZ(6),
    "last_success_at" TIMESTAMPTZ(6),
    "latency_ms" INTEGER,
    "error" TEXT,
    "next_check_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "attempt" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "cluster_health_pkey" PRIMARY KEY ("cluster_id")
);

-- CreateTable
CREATE TABLE "cluster_health_change" (
    "cluster_id" UUID NOT NULL,
    "number" INTEGER NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "state" TEXT NOT NULL,
    "error" TEXT,
    "at" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "cluster_health_change_pkey" PRIMARY KEY ("cluster_id","number")
);

-- CreateIndex
CREATE INDEX "cluster_health_next_check_at_idx" ON "cluster_health"("next_check_at");

-- AddForeignKey
ALTER TABLE "cluster_health" ADD CONSTRAINT "cluster_health_cluster_id_fkey" FOREIGN KEY ("cluster_id") REFERENCES "cluster"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "cluster_health_change" ADD CONSTRAINT "cluster_health_change_cluster_id_fkey" FOREIGN KEY ("cluster_id") REFERENCES "cluster_health"("cluster_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Every cluster has its row, whoever registers it: the release before knows nothing of it. It runs as who registers.
create function add_cluster_health() returns trigger language plpgsql as $$
begin
  insert into cluster_health (cluster_id, organisation_id, tenant_id)
  values (new.id, new.organisation_id, new.tenant_id);
  return null;
end $$;
create trigger add_health after insert on cluster for each row execute function add_cluster_health();
revoke execute on function add_cluster_health() from public;

-- Row-Level Security is forced upon the owner too, who must see the clusters of all tenants for this one statement. It
-- comes before the policies of the new table, which would keep the rows out.
alter table cluster no force row level security;
insert into cluster_health (cluster_id, organisation_id, tenant_id) select id, organisation_id, tenant_id from cluster;
alter table cluster force row level security;

-- The worker asks the clusters of all tenants in turn, and has no other way to those that nothing is deployed to. It finds
-- ids and what it wrote itself here; the credential it reads scoped to the cluster's tenant.
do $$
declare
  name text;
begin
  foreach name in array array['cluster_health', 'cluster_health_change'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format($p$create policy scope on %I to cdaas_api, cdaas_worker, cdaas_owner
      using (organisation_id = nullif(current_setting('app.org', true), '')::uuid
        and tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
      with check (organisation_id = nullif(current_setting('app.org', true), '')::uuid
        and tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)$p$, name);
    execute format('create policy worker on %I to cdaas_worker using (true) with check (true)', name);
  end loop;
end $$;

grant select, insert on cluster_health to cdaas_api;
grant select on cluster_health_change to cdaas_api;
grant select, update on cluster_health to cdaas_worker;
grant select, insert, delete on cluster_health_change to cdaas_worker;
