-- What a start makes due is due by this clock: the caller only estimates it, and what he takes for now may lie ahead.
-- A caller of the release before says wake_at instead of due.
set local role cdaas_owner;

-- Stores a start request with its deployments, first events and idempotency row, or says why not: { organisation_id,
-- tenant_id, pipeline: { id, application, description, status, initiated_by, source, source_control, context,
-- config_base64, config_digest, state, due, started_at }, deployments: [{ id, cluster_id, target, account, namespace,
-- status, phase, plan_base64, state, due }], events: [{ deployment_id?, type, data, message, at }], claims: [as above,
-- looked up only], idempotency?: { principal, route, key, body_hash, status, response } }.
-- The pipeline's own events count as folded into its state; those of deployments are news for their drivers.
create or replace function start_pipeline(p jsonb) returns jsonb language plpgsql as $$
declare
  organisation constant uuid := p ->> 'organisation_id';
  tenant constant uuid := p ->> 'tenant_id';
  new constant uuid := p #>> '{pipeline,id}';
  request constant jsonb := nullif(p -> 'idempotency', 'null');
  earlier idempotency_key%rowtype;
  found_id uuid;
  found_json jsonb;
begin
  perform set_config('app.org', organisation::text, true), set_config('app.tenant', tenant::text, true);

  if request is not null then
    if not pg_try_advisory_xact_lock(hashtextextended(concat_ws(E'\n', tenant, request ->> 'principal', request ->> 'route',
      request ->> 'key'), 7779))
    then
      return jsonb_build_object('running', true);
    end if;
    delete from idempotency_key where tenant_id = tenant and created_at < now() - interval '24 hours';
    select * into earlier from idempotency_key
    where tenant_id = tenant and principal = request ->> 'principal' and route = request ->> 'route'
      and key = request ->> 'key';
    if found then
      return jsonb_build_object('replay', jsonb_build_object(
        'status', earlier.status, 'response', earlier.response, 'bodyHash', earlier.body_hash));
    end if;
  end if;

  -- Held until the commit, so that a cluster is not removed under a run that begins: removing locks its row as well.
  select x.cluster_id into found_id
  from jsonb_to_recordset(p -> 'deployments') as x (cluster_id uuid)
  where not exists (select from cluster k where k.id = x.cluster_id for key share)
  limit 1;
  if found then
    return jsonb_build_object('missingCluster', found_id);
  end if;

  select to_jsonb(c) into found_json from claimed_objects(coalesce(nullif(p -> 'claims', 'null'), '[]')) c limit 1;
  if found then
    return jsonb_build_object('refusedClaim', jsonb_build_object('kind', found_json -> 'kind', 'namespace',
      found_json -> 'namespace', 'name', found_json -> 'name', 'sameTenant', found_json -> 'same_tenant',
      'deploymentId', found_json -> 'deployment_id'));
  end if;

  loop
    insert into pipeline (id, organisation_id, tenant_id, application, description, status, initiated_by, source,
      source_control, context, config, config_digest, state, wake_at, started_at, last_event, folded_event)
    select new, organisation, tenant, x.application, x.description, x.status, x.initiated_by, x.source, x.source_control,
      x.context, decode(x.config_base64, 'base64'), x.config_digest, x.state, case when coalesce(x.due, x.wake_at is not null) then now() end, x.started_at,
      jsonb_array_length(p -> 'events'),
      (select coalesce(max(n), 0) from jsonb_array_elements(p -> 'events') with ordinality as e (value, n)
        where e.value ->> 'deployment_id' is null)
    from jsonb_to_record(p -> 'pipeline') as x (application text, description text, status text, initiated_by text,
      source jsonb, source_control jsonb, context jsonb, config_base64 text, config_digest text, state jsonb,
      due boolean, wake_at timestamptz, started_at timestamptz)
    on conflict (tenant_id, application) where status not in ('SUCCEEDED', 'FAILED', 'CANCELLED', 'QUEUED') do nothing;
    exit when found;
    select id into found_id from pipeline
    where tenant_id = tenant and application = p #>> '{pipeline,application}'
      and status not in ('SUCCEEDED', 'FAILED', 'CANCELLED', 'QUEUED');
    if found then
      return jsonb_build_object('blockedBy', found_id);
    end if;
    -- It ended between the two statements: try again.
  end loop;

  insert into deployment (id, organisation_id, tenant_id, pipeline_id, cluster_id, target, account, namespace, status, phase,
    plan, state, wake_at, last_event)
  select x.id, organisation, tenant, new, x.cluster_id, x.target, x.account, x.namespace, x.status, x.phase,
    decode(x.plan_base64, 'base64'), x.state, case when coalesce(x.due, x.wake_at is not null) then now() end,
    (select coalesce(max(n), 0) from jsonb_array_elements(p -> 'events') with ordinality as e (value, n)
      where (e.value ->> 'deployment_id')::uuid = x.id)
  from jsonb_to_recordset(p -> 'deployments') as x (id uuid, cluster_id uuid, target text, account text, namespace text,
    status text, phase text, plan_base64 text, state jsonb, due boolean, wake_at timestamptz);

  insert into event (pipeline_id, number, deployment_id, organisation_id, tenant_id, type, data, message, at)
  select new, x.n, x.deployment_id, organisation, tenant, x.type, x.data, x.message, x.at
  from rows from (jsonb_to_recordset(p -> 'events') as (deployment_id uuid, type text, data jsonb, message text,
    at timestamptz)) with ordinality as x (deployment_id, type, data, message, at, n);

  if request is not null then
    insert into idempotency_key (organisation_id, tenant_id, principal, route, key, body_hash, status, response)
    select organisation, tenant, x.*
    from jsonb_to_record(request) as x (principal text, route text, key text, body_hash text, status int, response jsonb);
  end if;
  perform pg_notify('cdaas_events', '');
  return jsonb_build_object('started', true);
end $$;

