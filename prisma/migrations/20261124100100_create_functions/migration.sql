-- The engine's hot path: one round trip, one transaction each. They run as whoever calls them, under Row-Level Security.
--
-- Locks are taken in one order everywhere: pipelines by id, then deployments by id, then watch leases, then the claim lock.
-- A deployment's row is compared with the version and owner that the caller knows; whoever adds an event for a driver bumps
-- the version, so that a driver never overwrites what it has not seen. Events are numbered only after that comparison, under
-- the pipeline's lock: per pipeline without gaps, in the order of commits.
set local role cdaas_owner;

-- Liveness: each worker holds the session advisory lock (7777, its id) on a connection of its own.
create function live_workers() returns int[] language sql stable as $$
  select coalesce(array_agg(objid::bigint::int), '{}')
  from pg_locks
  where locktype = 'advisory' and classid = 7777 and objsubid = 2 and granted
    and database = (select oid from pg_database where datname = current_database())
$$;

-- What a driver needs of a deployment; `news`: the events that its state does not hold yet.
create view driven_deployment with (security_invoker = true) as
select d.id, d.version, d.owner, d.plan, jsonb_build_object(
  'organisationId', d.organisation_id, 'tenantId', d.tenant_id, 'pipelineId', d.pipeline_id, 'clusterId', d.cluster_id,
  'state', d.state,
  'news', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'number', e.number, 'type', e.type, 'data', e.data, 'at', e.at) order by e.number), '[]')
    from event e where e.deployment_id = d.id and e.number > d.folded_event)) as deployment
from deployment d;

-- The same of a pipeline; `news` are its own events, not those of its deployments.
create view driven_pipeline with (security_invoker = true) as
select p.id, p.version, p.owner, jsonb_build_object(
  'state', p.state,
  'news', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'number', e.number, 'type', e.type, 'data', e.data, 'at', e.at) order by e.number), '[]')
    from event e where e.pipeline_id = p.id and e.number > p.folded_event and e.deployment_id is null),
  'deployments', (
    select coalesce(jsonb_agg(jsonb_build_object('id', d.id, 'target', d.target, 'status', d.status) order by d.target), '[]')
    from deployment d where d.pipeline_id = p.id)) as pipeline
from pipeline p;

-- Takes up to p_limit deployments that somebody must look at, round-robin over organisations: due and without an owner,
-- left by an owner that is gone, or 20 s overdue, which counts anew from the taking. Beside them (taken = false, id and
-- version only) those that the worker drives and that have news.
create function claim_due(p_worker int, p_limit int)
  returns table (taken boolean, id uuid, version int, plan bytea, deployment jsonb)
  language plpgsql as $$
#variable_conflict use_column
declare
  live constant int[] := live_workers();
  ids uuid[];
begin
  with candidate as (
    select d.id, d.version, d.wake_at,
      row_number() over (partition by d.organisation_id order by d.wake_at nulls first, d.id) as turn
    from deployment d
    where not d.done and (
      (d.owner is null and d.wake_at <= now())
      or d.wake_at <= now() - interval '20 seconds'
      or (d.owner is not null and d.owner <> p_worker and d.owner <> all (live)))
  ), chosen as (
    select * from candidate order by turn, wake_at nulls first, id limit p_limit
  ), locked as (
    select d.id from deployment d join chosen c on c.id = d.id and c.version = d.version
    for no key update of d skip locked
  ), updated as (
    update deployment d
    set owner = p_worker, version = d.version + 1, wake_at = case when d.wake_at < now() then now() else d.wake_at end
    from locked where d.id = locked.id
    returning d.id
  )
  select coalesce(array_agg(id), '{}') into ids from updated;

  return query
    select true, v.id, v.version, v.plan, v.deployment from driven_deployment v where v.id = any (ids)
    union all
    select false, d.id, d.version, null, null from deployment d
    where d.owner = p_worker and not d.done and d.last_event > d.folded_event and d.id <> all (ids);
end $$;

-- The same for pipelines.
create function claim_due_pipelines(p_worker int, p_limit int)
  returns table (id uuid, version int, pipeline jsonb)
  language plpgsql as $$
#variable_conflict use_column
declare
  live constant int[] := live_workers();
  ids uuid[];
begin
  with candidate as (
    select p.id, p.version, p.wake_at,
      row_number() over (partition by p.organisation_id order by p.wake_at nulls first, p.id) as turn
    from pipeline p
    where (p.owner is null and p.wake_at <= now())
      or p.wake_at <= now() - interval '20 seconds'
      or (p.owner is not null and p.owner <> p_worker and p.owner <> all (live))
  ), chosen as (
    select * from candidate order by turn, wake_at nulls first, id limit p_limit
  ), locked as (
    select p.id from pipeline p join chosen c on c.id = p.id and c.version = p.version
    for no key update of p skip locked
  ), updated as (
    update pipeline p
    set owner = p_worker, version = p.version + 1, wake_at = case when p.wake_at < now() then now() else p.wake_at end
    from locked where p.id = locked.id
    returning p.id
  )
  select coalesce(array_agg(id), '{}') into ids from updated;

  return query select v.id, v.version, v.pipeline from driven_pipeline v where v.id = any (ids);
end $$;

-- Commits transitions of many deployments, one element each: { id, version, owner (both as expected), state, status, phase,
-- wake_at, done, started_at?, completed_at?, release?, events: [{ type, data, message, at }], owned?: [{ slot, api_version,
-- kind, namespace, name, action, previous_base64, uid, resource_version }], claims?: [{ cluster_uid, namespace, kind,
-- name }], free_claims? }.
-- Returns a row for each that won; one that is missing was moved by somebody else. `number` is its newest event's. Where
-- refused_claim says which object another deployment drives, nothing of that transition was applied.
create function advance_many(p jsonb)
  returns table (id uuid, version int, number int, refused_claim jsonb)
  language plpgsql as $$
#variable_conflict use_column
declare
  ids uuid[];
  won uuid[];
  refused jsonb := '{}';
  claimant record;
  blocker record;
begin
  select array_agg((t ->> 'id')::uuid) into ids from jsonb_array_elements(p) t;
  perform 1 from pipeline
    where id in (select pipeline_id from deployment d where d.id = any (ids)) order by id for no key update;
  perform 1 from deployment where id = any (ids) order by id for no key update;

  select coalesce(array_agg(d.id), '{}') into won
  from deployment d
  join jsonb_to_recordset(p) as t (id uuid, version int, owner int) on t.id = d.id
  where d.version = t.version and d.owner is not distinct from t.owner and not d.done;

  if jsonb_path_exists(p, '$[*].claims[*]') then
    -- Takers queue here, so that what is looked up stays true until the commit and no two wait for each other's rows.
    perform pg_advisory_xact_lock(7778, 0);
    for claimant in
      select d.id, d.organisation_id, d.tenant_id, t.claims
      from jsonb_to_recordset(p) as t (id uuid, claims jsonb) join deployment d on d.id = t.id
      where d.id = any (won) and jsonb_path_exists(t.claims, '$[*]')
      order by d.id
    loop
      select c.* into blocker
      from jsonb_to_recordset(claimant.claims) as x (cluster_uid text, namespace text, kind text, name text)
      join object_claim c on (c.cluster_uid, c.namespace, c.kind, c.name) = (x.cluster_uid, x.namespace, x.kind, x.name)
      where c.deployment_id <> claimant.id
      limit 1;
      if found then
        won := array_remove(won, claimant.id);
        refused := refused || jsonb_build_object(claimant.id, jsonb_build_object(
          'kind', blocker.kind, 'namespace', blocker.namespace, 'name', blocker.name,
          'sameTenant', blocker.tenant_id = claimant.tenant_id,
          'deploymentId', case when blocker.tenant_id = claimant.tenant_id then blocker.deployment_id end));
      else
        insert into object_claim (cluster_uid, namespace, kind, name, deployment_id, organisation_id, tenant_id)
        select x.cluster_uid, x.namespace, x.kind, x.name, claimant.id, claimant.organisation_id, claimant.tenant_id
        from jsonb_to_recordset(claimant.claims) as x (cluster_uid text, namespace text, kind text, name text)
        on conflict do nothing;
      end if;
    end loop;
  end if;

  return query
  with t as (
    select x.*, d.pipeline_id, d.organisation_id, d.tenant_id
    from rows from (jsonb_to_recordset(p) as (id uuid, state jsonb, status text, phase text, wake_at timestamptz, done boolean,
      started_at timestamptz, completed_at timestamptz, release boolean, events jsonb, owned jsonb, free_claims boolean))
      with ordinality as x (id, state, status, phase, wake_at, done, started_at, completed_at, release, events, owned,
        free_claims, ord)
    join deployment d on d.id = x.id
    where x.id = any (won)
  ), e as (
    select t.id as deployment_id, t.pipeline_id, t.organisation_id, t.tenant_id, x.type, x.data, x.message, x.at,
      l.last_event + row_number() over (partition by t.pipeline_id order by t.ord, x.ord) as number
    from t
    join pipeline l on l.id = t.pipeline_id
    cross join lateral rows from (jsonb_to_recordset(t.events) as (type text, data jsonb, message text, at timestamptz))
      with ordinality as x (type, data, message, at, ord)
  ), inserted as (
    insert into event (pipeline_id, number, deployment_id, organisation_id, tenant_id, type, data, message, at)
    select pipeline_id, number, deployment_id, organisation_id, tenant_id, type, data, message, at from e
  ), counted as (
    select t.pipeline_id, count(*) filter (where t.done)::int as ended,
      (select count(*) from e where e.pipeline_id = t.pipeline_id)::int as appended
    from t group by t.pipeline_id
  ), numbered as (
    update pipeline l
    set last_event = l.last_event + c.appended,
      version = l.version + c.ended,
      wake_at = case when c.ended > 0 then now() else l.wake_at end
    from counted c
    where l.id = c.pipeline_id and (c.appended > 0 or c.ended > 0)
  ), remembered as (
    insert into owned_object as o (deployment_id, slot, organisation_id, tenant_id, api_version, kind, namespace, name, action,
      previous, uid, resource_version)
    select t.id, x.slot, t.organisation_id, t.tenant_id, x.api_version, x.kind, x.namespace, x.name, x.action,
      decode(x.previous_base64, 'base64'), x.uid, x.resource_version
    from t
    cross join lateral jsonb_to_recordset(t.owned) as x (slot text, api_version text, kind text, namespace text, name text,
      action text, previous_base64 text, uid text, resource_version text)
    on conflict (deployment_id, slot) do update set
      action = excluded.action,
      previous = coalesce(o.previous, excluded.previous),
      uid = coalesce(excluded.uid, o.uid),
      resource_version = coalesce(excluded.resource_version, o.resource_version)
  ), freed as (
    delete from object_claim c using t where c.deployment_id = t.id and (t.done or t.free_claims)
  ), moved as (
    update deployment d
    set version = d.version + 1,
      state = t.state, status = t.status, phase = t.phase, done = t.done,
      wake_at = case when not t.done then t.wake_at end,
      owner = case when not t.done and t.release is not true then d.owner end,
      started_at = coalesce(d.started_at, t.started_at),
      completed_at = coalesce(d.completed_at, t.completed_at),
      last_event = coalesce(n.number, d.last_event),
      folded_event = coalesce(n.number, d.last_event)
    from t
    left join (select e.deployment_id, max(e.number)::int as number from e group by e.deployment_id) n on n.deployment_id = t.id
    where d.id = t.id
    returning d.id, d.version, d.last_event
  )
  select m.id, m.version, m.last_event, null::jsonb from moved m
  union all
  select r.key::uuid, null, null, r.value from jsonb_each(refused) r;

  if jsonb_path_exists(p, '$[*].events[*]') and won <> '{}' then
    perform pg_notify('cdaas_events', '');
  end if;
end $$;

-- Commits a decision about one pipeline and lets it go: { id, version, owner (as expected), state, status, wake_at,
-- started_at?, completed_at?, events: [as above], deployments: [{ id, status?, event?: { type, data, message, at } }] }.
-- The pipeline's own events count as folded into the state; a deployment's event is news for its driver, who is due now.
-- Returns no row where somebody else moved the pipeline or it is final.
create function advance_pipeline(p jsonb)
  returns table (version int, number int, woken jsonb)
  language plpgsql as $$
#variable_conflict use_column
declare
  this pipeline%rowtype;
  own int := coalesce(jsonb_array_length(p -> 'events'), 0);
  news int;
begin
  select * into this from pipeline where id = (p ->> 'id')::uuid for no key update;
  if not found or this.version <> (p ->> 'version')::int or this.owner is distinct from (p ->> 'owner')::int
    or this.status in ('SUCCEEDED', 'FAILED', 'CANCELLED')
  then
    return;
  end if;
  perform 1 from deployment
    where pipeline_id = this.id and id in (select (x ->> 'id')::uuid from jsonb_array_elements(p -> 'deployments') x)
    order by id for no key update;

  insert into event (pipeline_id, number, organisation_id, tenant_id, type, data, message, at)
  select this.id, this.last_event + x.ord, this.organisation_id, this.tenant_id, x.type, x.data, x.message, x.at
  from rows from (jsonb_to_recordset(p -> 'events') as (type text, data jsonb, message text, at timestamptz))
    with ordinality as x (type, data, message, at, ord);

  with t as (
    select d.id, x.status, x.event, row_number() over (order by x.event is null, x.ord) as place
    from rows from (jsonb_to_recordset(p -> 'deployments') as (id uuid, status text, event jsonb))
      with ordinality as x (id, status, event, ord)
    join deployment d on d.id = x.id
    where d.pipeline_id = this.id and not d.done
  ), inserted as (
    insert into event (pipeline_id, number, deployment_id, organisation_id, tenant_id, type, data, message, at)
    select this.id, this.last_event + own + t.place, t.id, this.organisation_id, this.tenant_id,
      t.event ->> 'type', t.event -> 'data', t.event ->> 'message', (t.event ->> 'at')::timestamptz
    from t where t.event is not null
    returning deployment_id, number
  ), told as (
    update deployment d
    set status = coalesce(t.status, d.status), version = d.version + 1, wake_at = now(),
      last_event = coalesce(i.number, d.last_event)
    from t left join inserted i on i.deployment_id = t.id
    where d.id = t.id
    returning d.id, d.owner, i.number
  )
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'owner', owner)), '[]'), count(number) into woken, news from told;

  update pipeline l
  set version = l.version + 1, state = p -> 'state', status = p ->> 'status', wake_at = (p ->> 'wake_at')::timestamptz,
    owner = null, last_event = l.last_event + own + news, folded_event = l.last_event + own,
    started_at = coalesce(l.started_at, (p ->> 'started_at')::timestamptz),
    completed_at = coalesce(l.completed_at, (p ->> 'completed_at')::timestamptz)
  where l.id = this.id
  returning l.version, l.last_event into version, number;

  if own + news > 0 then
    perform pg_notify('cdaas_events', '');
  end if;
  return next;
end $$;

-- Adds events for drivers to fold, of deployments ({ deployment_id, … }) or of pipelines themselves ({ pipeline_id, … }):
-- { type, data, message, at?, unless_status?: [text], once?: boolean (not where the target has an event of that type and
-- data.ref already), cluster_id? and epoch? (of observed events: the watch lease must still be at that epoch) }. The API
-- says for whom it works; the worker passes nulls.
-- Returns one row per element, `ord` from 1; `refused` is missing, final, status, repeated or epoch, and then nothing was
-- added.
create function append_news(p_organisation uuid, p_tenant uuid, p jsonb)
  returns table (ord int, pipeline_id uuid, number int, owner int, refused text, status text)
  language plpgsql as $$
#variable_conflict use_column
declare
  news jsonb;
begin
  if p_organisation is not null then
    perform set_config('app.org', p_organisation::text, true), set_config('app.tenant', p_tenant::text, true);
  end if;
  perform 1 from pipeline l
    where l.id in (select (x ->> 'pipeline_id')::uuid from jsonb_array_elements(p) x)
      or l.id in (select d.pipeline_id from deployment d
        where d.id in (select (x ->> 'deployment_id')::uuid from jsonb_array_elements(p) x))
    order by l.id for no key update;
  perform 1 from deployment d
    where d.id in (select (x ->> 'deployment_id')::uuid from jsonb_array_elements(p) x) order by d.id for no key update;
  -- A take-over of the watches waits until this is committed, or has bumped the epoch before.
  if jsonb_path_exists(p, '$[*].cluster_id ? (@ != null)') then
    perform 1 from watch_lease w
      where w.cluster_id in (select (x ->> 'cluster_id')::uuid from jsonb_array_elements(p) x)
      order by w.cluster_id for share;
  end if;

  -- Everything is judged before anything is written.
  select coalesce(jsonb_agg(jsonb_build_object(
    'ord', x.ord, 'deployment', d.id, 'pipeline', l.id, 'type', x.type, 'data', x.data, 'message', x.message,
    'at', coalesce(x.at, clock_timestamp()), 'status', coalesce(d.status, l.status), 'refused', case
      when l.id is null then 'missing'
      when d.done or (d.id is null and l.status in ('SUCCEEDED', 'FAILED', 'CANCELLED')) then 'final'
      when x.unless_status ? coalesce(d.status, l.status) then 'status'
      when x.once and exists (
        select from event e
        where e.pipeline_id = l.id and e.deployment_id is not distinct from d.id and e.type = x.type
          and e.data ->> 'ref' is not distinct from x.data ->> 'ref') then 'repeated'
      when x.cluster_id is not null and not exists (
        select from watch_lease w where w.cluster_id = x.cluster_id and w.epoch = x.epoch) then 'epoch'
    end) order by x.ord), '[]') into news
  from rows from (jsonb_to_recordset(p) as (deployment_id uuid, pipeline_id uuid, type text, data jsonb, message text,
    at timestamptz, unless_status jsonb, once boolean, cluster_id uuid, epoch int))
    with ordinality as x (deployment_id, pipeline_id, type, data, message, at, unless_status, once, cluster_id, epoch, ord)
  left join deployment d on d.id = x.deployment_id
  left join pipeline l on l.id = coalesce(d.pipeline_id, case when x.deployment_id is null then x.pipeline_id end);

  return query
  with t as (
    select x.*, l.organisation_id, l.tenant_id,
      case when x.refused is null then l.last_event
        + (row_number() over (partition by x.pipeline, x.refused is null order by x.ord))::int end as number
    from jsonb_to_recordset(news) as x (ord int, deployment uuid, pipeline uuid, type text, data jsonb, message text,
      at timestamptz, status text, refused text)
    left join pipeline l on l.id = x.pipeline
  ), inserted as (
    insert into event (pipeline_id, number, deployment_id, organisation_id, tenant_id, type, data, message, at)
    select t.pipeline, t.number, t.deployment, t.organisation_id, t.tenant_id, t.type, t.data, t.message, t.at
    from t where t.refused is null
  ), numbered as (
    update pipeline l
    set last_event = c.newest,
      version = case when c.own then l.version + 1 else l.version end,
      wake_at = case when c.own then now() else l.wake_at end
    from (select t.pipeline, max(t.number) as newest, bool_or(t.deployment is null) as own
      from t where t.refused is null group by t.pipeline) c
    where l.id = c.pipeline
  ), told as (
    update deployment d
    set last_event = c.newest, version = d.version + 1, wake_at = now()
    from (select t.deployment, max(t.number) as newest
      from t where t.refused is null and t.deployment is not null group by t.deployment) c
    where d.id = c.deployment
  )
  -- The owners as they were before, which these statements do not change.
  select t.ord, t.pipeline, t.number, case when t.deployment is null then l.owner else d.owner end, t.refused, t.status
  from t
  left join deployment d on d.id = t.deployment
  left join pipeline l on l.id = t.pipeline
  order by t.ord;

  if jsonb_path_exists(news, '$[*] ? (@.refused == null)') then
    perform pg_notify('cdaas_events', '');
  end if;
end $$;

-- Which of the given objects of the tenant's own clusters somebody drives already: one row each. Runs as the owner, because
-- the claims of other tenants count as well; of those it says nothing but that they are there.
create function claimed_objects(p_claims jsonb)
  returns table (kind text, namespace text, name text, same_tenant boolean, deployment_id uuid)
  language sql stable security definer set search_path = public, pg_temp as $$
  select c.kind, c.namespace, c.name, s.own, case when s.own then c.deployment_id end
  from jsonb_to_recordset(p_claims) as x (cluster_uid text, namespace text, kind text, name text)
  join object_claim c on (c.cluster_uid, c.namespace, c.kind, c.name) = (x.cluster_uid, x.namespace, x.kind, x.name)
  cross join lateral (select c.tenant_id = nullif(current_setting('app.tenant', true), '')::uuid as own) s
  where exists (select from cluster k where k.cluster_uid = c.cluster_uid)
$$;

-- Stores a start request with its deployments, first events and idempotency row, or says why not: { organisation_id,
-- tenant_id, pipeline: { id, application, description, status, initiated_by, source, source_control, context,
-- config_base64, config_digest, state, wake_at, started_at }, deployments: [{ id, cluster_id, target, account, namespace,
-- status, phase, plan_base64, state, wake_at }], events: [{ deployment_id?, type, data, message, at }], claims: [as above,
-- looked up only], idempotency?: { principal, route, key, body_hash, status, response } }.
-- The pipeline's own events count as folded into its state; those of deployments are news for their drivers.
create function start_pipeline(p jsonb) returns jsonb language plpgsql as $$
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
      x.context, decode(x.config_base64, 'base64'), x.config_digest, x.state, x.wake_at, x.started_at,
      jsonb_array_length(p -> 'events'),
      (select coalesce(max(n), 0) from jsonb_array_elements(p -> 'events') with ordinality as e (value, n)
        where e.value ->> 'deployment_id' is null)
    from jsonb_to_record(p -> 'pipeline') as x (application text, description text, status text, initiated_by text,
      source jsonb, source_control jsonb, context jsonb, config_base64 text, config_digest text, state jsonb,
      wake_at timestamptz, started_at timestamptz)
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
    decode(x.plan_base64, 'base64'), x.state, x.wake_at,
    (select coalesce(max(n), 0) from jsonb_array_elements(p -> 'events') with ordinality as e (value, n)
      where (e.value ->> 'deployment_id')::uuid = x.id)
  from jsonb_to_recordset(p -> 'deployments') as x (id uuid, cluster_id uuid, target text, account text, namespace text,
    status text, phase text, plan_base64 text, state jsonb, wake_at timestamptz);

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

-- Makes the worker the owner of a cluster's watches if nobody alive is; says who is, and at which epoch.
create function take_watch_lease(p_worker int, p_cluster uuid)
  returns table (owner int, epoch int)
  language plpgsql as $$
#variable_conflict use_column
begin
  insert into watch_lease as w (cluster_id, owner) values (p_cluster, p_worker)
  on conflict (cluster_id) do update set owner = excluded.owner, epoch = w.epoch + 1
  where w.owner <> excluded.owner and w.owner <> all (live_workers());
  return query select w.owner, w.epoch from watch_lease w where w.cluster_id = p_cluster;
end $$;

revoke execute on all functions in schema public from public;
grant execute on function live_workers() to cdaas_api, cdaas_worker;
grant execute on function append_news(uuid, uuid, jsonb) to cdaas_api, cdaas_worker;
grant execute on function claimed_objects(jsonb), start_pipeline(jsonb) to cdaas_api;
grant execute on function claim_due(int, int), claim_due_pipelines(int, int), advance_many(jsonb), advance_pipeline(jsonb),
  take_watch_lease(int, uuid) to cdaas_worker;
grant select on driven_deployment, driven_pipeline to cdaas_worker;
