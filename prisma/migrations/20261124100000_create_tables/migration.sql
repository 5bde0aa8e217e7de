-- The roles. Roles belong to the whole server, so another database of it may have made them already, also at this moment.
-- Processes connect as whoever DATABASE_URL names and take their role with the start-up option role=….
do $$
declare
  name text;
begin
  foreach name in array array['cdaas_owner', 'cdaas_api', 'cdaas_worker'] loop
    begin
      if not exists (select from pg_roles where rolname = name) then
        execute format('create role %I nologin', name);
      end if;
    exception when duplicate_object or unique_violation then
      null;
    end;
    -- From 16 on, who made a role is a member without being able to take it.
    if not pg_has_role(current_user, name,
      case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
    then
      execute format('grant %I to %I', name, current_user);
    end if;
  end loop;
end $$;
grant usage, create on schema public to cdaas_owner;
grant usage on schema public to cdaas_api, cdaas_worker;

-- The script is one implicit transaction: what follows, here and in every later migration, belongs to cdaas_owner.
set local role cdaas_owner;

-- CreateTable
CREATE TABLE "organisation" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "organisation_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "tenant" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "tenant_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "role" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID,
    "name" TEXT NOT NULL,
    "system_defined" BOOLEAN NOT NULL DEFAULT false,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "role_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "grant" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "role_id" UUID NOT NULL,
    "type" TEXT NOT NULL,
    "resource" TEXT NOT NULL,
    "permission" TEXT NOT NULL,

    CONSTRAINT "grant_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "client_credential" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "client_id" TEXT NOT NULL,
    "secret_hash" TEXT NOT NULL,
    "created_by" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "disabled_at" TIMESTAMPTZ(6),

    CONSTRAINT "client_credential_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "client_credential_role" (
    "credential_id" UUID NOT NULL,
    "role_id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,

    CONSTRAINT "client_credential_role_pkey" PRIMARY KEY ("credential_id","role_id")
);

-- CreateTable
CREATE TABLE "credential_directory" (
    "client_id" TEXT NOT NULL,
    "credential_id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,

    CONSTRAINT "credential_directory_pkey" PRIMARY KEY ("client_id")
);

-- CreateTable
CREATE TABLE "signing_key" (
    "kid" TEXT NOT NULL,
    "algorithm" TEXT NOT NULL,
    "public_jwk" JSONB NOT NULL,
    "wrapped_private_jwk" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "retired_at" TIMESTAMPTZ(6),

    CONSTRAINT "signing_key_pkey" PRIMARY KEY ("kid")
);

-- CreateTable
CREATE TABLE "data_key" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "wrapped" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "data_key_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "cluster" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "server" TEXT NOT NULL,
    "ca_data" TEXT NOT NULL,
    "cluster_uid" TEXT NOT NULL,
    "credential" BYTEA NOT NULL,
    "namespaces" TEXT[],
    "cluster_scoped_kinds" TEXT[] DEFAULT ARRAY['Namespace']::TEXT[],
    "mesh_confirmation" TEXT NOT NULL,
    "kubernetes_version" TEXT NOT NULL,
    "split_version" TEXT,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "verified_at" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "cluster_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "pipeline" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "application" TEXT NOT NULL,
    "description" TEXT NOT NULL DEFAULT '',
    "status" TEXT NOT NULL,
    "initiated_by" TEXT NOT NULL,
    "source" JSONB,
    "source_control" JSONB,
    "context" JSONB,
    "config" BYTEA NOT NULL,
    "config_digest" TEXT NOT NULL,
    "state" JSONB NOT NULL,
    "version" INTEGER NOT NULL DEFAULT 0,
    "last_event" INTEGER NOT NULL DEFAULT 0,
    "folded_event" INTEGER NOT NULL DEFAULT 0,
    "wake_at" TIMESTAMPTZ(6),
    "owner" INTEGER,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(6),
    "completed_at" TIMESTAMPTZ(6),

    CONSTRAINT "pipeline_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "deployment" (
    "id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "pipeline_id" UUID NOT NULL,
    "cluster_id" UUID NOT NULL,
    "target" TEXT NOT NULL,
    "account" TEXT NOT NULL,
    "namespace" TEXT NOT NULL,
    "status" TEXT NOT NULL,
    "phase" TEXT,
    "plan" BYTEA NOT NULL,
    "state" JSONB NOT NULL,
    "version" INTEGER NOT NULL DEFAULT 0,
    "last_event" INTEGER NOT NULL DEFAULT 0,
    "folded_event" INTEGER NOT NULL DEFAULT 0,
    "wake_at" TIMESTAMPTZ(6),
    "owner" INTEGER,
    "done" BOOLEAN NOT NULL DEFAULT false,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(6),
    "completed_at" TIMESTAMPTZ(6),

    CONSTRAINT "deployment_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "event" (
    "pipeline_id" UUID NOT NULL,
    "number" INTEGER NOT NULL,
    "deployment_id" UUID,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "type" TEXT NOT NULL,
    "data" JSONB NOT NULL,
    "message" TEXT,
    "at" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "event_pkey" PRIMARY KEY ("pipeline_id","number")
);

-- CreateTable
CREATE TABLE "object_claim" (
    "cluster_uid" TEXT NOT NULL,
    "namespace" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "deployment_id" UUID NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,

    CONSTRAINT "object_claim_pkey" PRIMARY KEY ("cluster_uid","namespace","kind","name")
);

-- CreateTable
CREATE TABLE "watch_lease" (
    "cluster_id" UUID NOT NULL,
    "owner" INTEGER NOT NULL,
    "epoch" INTEGER NOT NULL DEFAULT 1,

    CONSTRAINT "watch_lease_pkey" PRIMARY KEY ("cluster_id")
);

-- CreateTable
CREATE TABLE "owned_object" (
    "deployment_id" UUID NOT NULL,
    "slot" TEXT NOT NULL,
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "api_version" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "namespace" TEXT,
    "name" TEXT NOT NULL,
    "action" TEXT NOT NULL,
    "previous" BYTEA,
    "uid" TEXT,
    "resource_version" TEXT,

    CONSTRAINT "owned_object_pkey" PRIMARY KEY ("deployment_id","slot")
);

-- CreateTable
CREATE TABLE "idempotency_key" (
    "organisation_id" UUID NOT NULL,
    "tenant_id" UUID NOT NULL,
    "principal" TEXT NOT NULL,
    "route" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "body_hash" TEXT NOT NULL,
    "status" INTEGER NOT NULL,
    "response" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "idempotency_key_pkey" PRIMARY KEY ("tenant_id","principal","route","key")
);

-- CreateTable
CREATE TABLE "instance" (
    "id" UUID NOT NULL,

    CONSTRAINT "instance_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "tenant_organisation_id_name_key" ON "tenant"("organisation_id", "name");

-- CreateIndex
CREATE UNIQUE INDEX "tenant_id_organisation_id_key" ON "tenant"("id", "organisation_id");

-- CreateIndex
CREATE UNIQUE INDEX "role_id_organisation_id_key" ON "role"("id", "organisation_id");

-- CreateIndex
CREATE INDEX "role_organisation_id_idx" ON "role"("organisation_id");

-- CreateIndex
CREATE INDEX "role_tenant_id_idx" ON "role"("tenant_id");

-- CreateIndex
CREATE UNIQUE INDEX "grant_role_id_type_resource_permission_key" ON "grant"("role_id", "type", "resource", "permission");

-- CreateIndex
CREATE UNIQUE INDEX "client_credential_client_id_key" ON "client_credential"("client_id");

-- CreateIndex
CREATE UNIQUE INDEX "client_credential_id_organisation_id_key" ON "client_credential"("id", "organisation_id");

-- CreateIndex
CREATE UNIQUE INDEX "client_credential_client_id_id_tenant_id_organisation_id_key" ON "client_credential"("client_id", "id", "tenant_id", "organisation_id");

-- CreateIndex
CREATE INDEX "client_credential_organisation_id_idx" ON "client_credential"("organisation_id");

-- CreateIndex
CREATE INDEX "client_credential_tenant_id_idx" ON "client_credential"("tenant_id");

-- CreateIndex
CREATE INDEX "client_credential_role_role_id_idx" ON "client_credential_role"("role_id");

-- CreateIndex
CREATE INDEX "data_key_organisation_id_created_at_idx" ON "data_key"("organisation_id", "created_at");

-- CreateIndex
CREATE UNIQUE INDEX "cluster_tenant_id_name_key" ON "cluster"("tenant_id", "name");

-- CreateIndex
CREATE INDEX "pipeline_tenant_id_id_idx" ON "pipeline"("tenant_id", "id");

-- CreateIndex
CREATE INDEX "pipeline_wake_at_idx" ON "pipeline"("wake_at");

-- CreateIndex
CREATE INDEX "deployment_cluster_id_idx" ON "deployment"("cluster_id");

-- CreateIndex
CREATE UNIQUE INDEX "deployment_pipeline_id_target_key" ON "deployment"("pipeline_id", "target");

-- CreateIndex
CREATE INDEX "event_deployment_id_number_idx" ON "event"("deployment_id", "number");

-- CreateIndex
CREATE INDEX "object_claim_deployment_id_idx" ON "object_claim"("deployment_id");

-- CreateIndex
CREATE INDEX "idempotency_key_created_at_idx" ON "idempotency_key"("created_at");

-- AddForeignKey
ALTER TABLE "tenant" ADD CONSTRAINT "tenant_organisation_id_fkey" FOREIGN KEY ("organisation_id") REFERENCES "organisation"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "role" ADD CONSTRAINT "role_organisation_id_fkey" FOREIGN KEY ("organisation_id") REFERENCES "organisation"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "role" ADD CONSTRAINT "role_tenant_id_organisation_id_fkey" FOREIGN KEY ("tenant_id", "organisation_id") REFERENCES "tenant"("id", "organisation_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "grant" ADD CONSTRAINT "grant_role_id_organisation_id_fkey" FOREIGN KEY ("role_id", "organisation_id") REFERENCES "role"("id", "organisation_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "client_credential" ADD CONSTRAINT "client_credential_organisation_id_fkey" FOREIGN KEY ("organisation_id") REFERENCES "organisation"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "client_credential" ADD CONSTRAINT "client_credential_tenant_id_organisation_id_fkey" FOREIGN KEY ("tenant_id", "organisation_id") REFERENCES "tenant"("id", "organisation_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "client_credential_role" ADD CONSTRAINT "client_credential_role_credential_id_organisation_id_fkey" FOREIGN KEY ("credential_id", "organisation_id") REFERENCES "client_credential"("id", "organisation_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "client_credential_role" ADD CONSTRAINT "client_credential_role_role_id_organisation_id_fkey" FOREIGN KEY ("role_id", "organisation_id") REFERENCES "role"("id", "organisation_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credential_directory" ADD CONSTRAINT "credential_directory_client_id_credential_id_tenant_id_org_fkey" FOREIGN KEY ("client_id", "credential_id", "tenant_id", "organisation_id") REFERENCES "client_credential"("client_id", "id", "tenant_id", "organisation_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "data_key" ADD CONSTRAINT "data_key_organisation_id_fkey" FOREIGN KEY ("organisation_id") REFERENCES "organisation"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "cluster" ADD CONSTRAINT "cluster_tenant_id_organisation_id_fkey" FOREIGN KEY ("tenant_id", "organisation_id") REFERENCES "tenant"("id", "organisation_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "pipeline" ADD CONSTRAINT "pipeline_tenant_id_organisation_id_fkey" FOREIGN KEY ("tenant_id", "organisation_id") REFERENCES "tenant"("id", "organisation_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "deployment" ADD CONSTRAINT "deployment_pipeline_id_fkey" FOREIGN KEY ("pipeline_id") REFERENCES "pipeline"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "object_claim" ADD CONSTRAINT "object_claim_deployment_id_fkey" FOREIGN KEY ("deployment_id") REFERENCES "deployment"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "watch_lease" ADD CONSTRAINT "watch_lease_cluster_id_fkey" FOREIGN KEY ("cluster_id") REFERENCES "cluster"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "owned_object" ADD CONSTRAINT "owned_object_deployment_id_fkey" FOREIGN KEY ("deployment_id") REFERENCES "deployment"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "idempotency_key" ADD CONSTRAINT "idempotency_key_tenant_id_organisation_id_fkey" FOREIGN KEY ("tenant_id", "organisation_id") REFERENCES "tenant"("id", "organisation_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- What Prisma cannot say.

-- A start is refused while one of the same application runs. The list of final statuses stands here, in the functions and
-- in packages/pipeline.
create unique index pipeline_running on pipeline (tenant_id, application)
  where status not in ('SUCCEEDED', 'FAILED', 'CANCELLED', 'QUEUED');
create index pipeline_owner on pipeline (owner) where owner is not null;

-- Every transition updates the row: room for it on the same page.
alter table deployment set (fillfactor = 70);
create index deployment_wake on deployment (wake_at) where not done;
create index deployment_owner on deployment (owner) where not done and owner is not null;

insert into instance values (gen_random_uuid());

-- Row-Level Security. A transaction says with set_config('app.org', …, true) and 'app.tenant' for whom it works; without,
-- it sees nothing. FORCE: the owner is no exception.
do $$
declare
  organisation constant text := 'nullif(current_setting(''app.org'', true), '''')::uuid';
  tenant constant text := 'nullif(current_setting(''app.tenant'', true), '''')::uuid';
  name text;
  rule text;
begin
  foreach name in array array['organisation', 'tenant', 'role', 'grant', 'client_credential_role', 'data_key',
    'client_credential', 'cluster', 'pipeline', 'deployment', 'event', 'object_claim', 'owned_object', 'idempotency_key']
  loop
    rule := case
      when name = 'organisation' then format('id = %s', organisation)
      when name in ('tenant', 'role', 'grant', 'client_credential_role', 'data_key')
        then format('organisation_id = %s', organisation)
      else format('organisation_id = %s and tenant_id = %s', organisation, tenant)
    end;
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy scope on %I to cdaas_api, cdaas_worker, cdaas_owner using (%s) with check (%s)',
      name, rule, rule);
  end loop;

  -- The worker drives the deployments of all tenants in one query; what else it needs it reads scoped to one of them.
  foreach name in array array['pipeline', 'deployment', 'event', 'owned_object', 'object_claim'] loop
    execute format('create policy worker on %I to cdaas_worker using (true) with check (true)', name);
  end loop;
end $$;

-- What the API inserts must belong to a pipeline of its scope: the number of a row's own tenant says nothing of the row that
-- it refers to, and keys are not checked under Row-Level Security. A policy, and no keys over three columns, because the
-- worker's inserts are the hot path, and take all of that from the deployment's row.
create policy parent on deployment as restrictive for insert to cdaas_api with check (exists (
  select from pipeline p where p.id = pipeline_id and (p.organisation_id, p.tenant_id) = (deployment.organisation_id, deployment.tenant_id)));
create policy parent on event as restrictive for insert to cdaas_api with check (
  exists (select from pipeline p
    where p.id = pipeline_id and (p.organisation_id, p.tenant_id) = (event.organisation_id, event.tenant_id))
  and (deployment_id is null or exists (select from deployment d
    where d.id = deployment_id and d.pipeline_id = event.pipeline_id)));

-- For the function claimed_objects alone, which says whether another tenant drives an object without saying who.
create policy lookup on object_claim for select to cdaas_owner using (true);

-- Each role may do what its use cases do.
grant select, insert on organisation, tenant, data_key to cdaas_api;
grant select, insert, update, delete on role, "grant", client_credential, client_credential_role, cluster to cdaas_api;
grant select, insert, delete on credential_directory, idempotency_key to cdaas_api;
grant select, insert, update (retired_at) on signing_key to cdaas_api;
grant select, insert, update (version, last_event, wake_at) on pipeline, deployment to cdaas_api;
grant select, insert on event to cdaas_api;
grant select on object_claim, owned_object, watch_lease, instance to cdaas_api;

grant select on organisation, tenant, data_key, cluster, instance to cdaas_worker;
grant select, update (status, state, version, last_event, folded_event, wake_at, owner, started_at, completed_at)
  on pipeline to cdaas_worker;
grant select, update (status, phase, state, version, last_event, folded_event, wake_at, owner, done, started_at, completed_at)
  on deployment to cdaas_worker;
grant select, insert on event to cdaas_worker;
grant select, insert, update on owned_object, watch_lease to cdaas_worker;
grant select, insert, delete on object_claim to cdaas_worker;
