-- Version 1 of the event store in PostgreSQL 13 and later. Applied by `tidegate migrate` in one transaction; never
-- changed once released: what comes later is a version of its own.
--
-- Applications INSERT into tidegate.outbox in their own transactions and need nothing else. The broker owns the
-- schema. Ids are handed out under the lock of one row (tidegate.head), so that they become visible in their order.
CREATE TABLE tidegate.version (
  version int PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE tidegate.head ( -- one row; the only point where writers of events wait for one another
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  seq bigint NOT NULL, -- last id handed out
  sysid bigint NOT NULL, -- cluster, WAL timeline and start of the server they were handed out on
  tli int NOT NULL,
  boot timestamptz NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE tidegate.leap ( -- ids in (after, upto] were never valid on this lineage
  after bigint PRIMARY KEY,
  upto bigint NOT NULL,
  reason text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE tidegate.outbox ( -- the public contract
  -- order of arrival, never shown to clients; CACHE must stay 1
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CONSTRAINT "id: leave it to the table" CHECK (id > 0),
  topic text NOT NULL CONSTRAINT "topic: 1 to 255 bytes" CHECK (topic <> '' AND octet_length(topic) <= 255),
  type text CONSTRAINT "type: at most 255 bytes" CHECK (octet_length(type) <= 255),
  data text NOT NULL,
  attrs jsonb, -- an object of strings, numbers and booleans
  key text CONSTRAINT "key: at most 255 bytes" CHECK (octet_length(key) <= 255), -- idempotency key
  created timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
        vacuum_truncate = off);

CREATE TABLE tidegate.rejected ( -- rows of the outbox that cannot be events, and why; kept for 30 days
  id bigint NOT NULL, -- in the outbox
  topic text, type text, data text, attrs jsonb, key text, created timestamptz,
  reason text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON tidegate.rejected USING brin (at);

CREATE TABLE tidegate.events (
  seq bigint PRIMARY KEY,
  topic text NOT NULL,
  type text,
  data text NOT NULL,
  attrs jsonb,
  key text,
  created timestamptz NOT NULL, -- when it was published
  at timestamptz NOT NULL -- when it got its id
) PARTITION BY RANGE (seq);
CREATE INDEX ON tidegate.events (topic, seq);

CREATE TABLE tidegate.partition ( -- of tidegate.events: ids in [lo, hi)
  lo bigint PRIMARY KEY,
  hi bigint NOT NULL UNIQUE,
  name text NOT NULL
);

CREATE TABLE tidegate.retention (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  trimmed bigint NOT NULL -- everything up to here was removed
);

CREATE TABLE tidegate.dedup (
  key text PRIMARY KEY,
  seq bigint NOT NULL,
  at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX ON tidegate.dedup USING brin (at);

CREATE TABLE tidegate.writer ( -- the last batch of each broker process: was it stored before the connection broke?
  id uuid PRIMARY KEY,
  batch bigint NOT NULL,
  first bigint NOT NULL, -- its ids are first, first + 1, ...
  ids bigint[], dups boolean[], -- or these, where some key was known
  at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- 2^20 ids per second since 2025-01-01: below 2^53 until 2297, and above all that was ever handed out
CREATE FUNCTION tidegate.floor_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT ((extract(epoch FROM clock_timestamp()) - 1735689600) * 1048576)::bigint
$$;

-- The control file knows a new timeline only after a checkpoint, the name of the WAL file at once. The start of the
-- server: files can be put back to an older state without a new timeline, but not under a running server.
CREATE FUNCTION tidegate.ident(OUT sysid bigint, OUT tli int, OUT boot timestamptz) LANGUAGE sql VOLATILE AS $$
  SELECT (SELECT system_identifier FROM pg_control_system()),
         ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
         pg_postmaster_start_time()
$$;

-- makes partitions until p_seq + 1 and the p_size ids behind it have a place
CREATE FUNCTION tidegate.ahead(p_seq bigint, p_size bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  top bigint; lo bigint; nm text;
BEGIN
  SELECT max(hi) INTO top FROM tidegate.partition;
  IF top > p_seq + p_size THEN
    RETURN top;
  END IF;
  PERFORM pg_advisory_xact_lock(1952736100, 2); -- against other brokers; the next statement sees what they made
  LOOP
    SELECT max(hi) INTO top FROM tidegate.partition;
    EXIT WHEN top > p_seq + p_size;
    lo := greatest(coalesce(top, 0), (p_seq + 1) / p_size * p_size);
    nm := format('events_%s', lo);
    -- not CREATE ... PARTITION OF, which would lock the readers out
    EXECUTE format('CREATE TABLE tidegate.%I (LIKE tidegate.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', nm);
    EXECUTE format('ALTER TABLE tidegate.%I ADD CONSTRAINT bounds CHECK (seq >= %s AND seq < %s)', nm, lo, lo + p_size);
    EXECUTE format('ALTER TABLE tidegate.events ATTACH PARTITION tidegate.%I FOR VALUES FROM (%s) TO (%s)', nm, lo, lo + p_size);
    EXECUTE format('ALTER TABLE tidegate.%I DROP CONSTRAINT bounds', nm);
    INSERT INTO tidegate.partition VALUES (lo, lo + p_size, nm);
  END LOOP;
  RETURN top;
END $$;

-- After every connect, before the first id is handed out: failover, restore, another cluster? Then ids that this server
-- does not know of may be out there. Where nothing was lost the leap is harmless: nobody holds an id within it.
-- Since version 3: tidegate.lead(bigint, bigint) of schema_3_ids.sql.
CREATE FUNCTION tidegate.lead(p_size bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  h tidegate.head; i record; n bigint;
BEGIN
  SELECT * INTO h FROM tidegate.head FOR UPDATE;
  SELECT * INTO i FROM tidegate.ident();
  n := h.seq;
  IF h.sysid <> i.sysid OR h.tli <> i.tli OR h.boot <> i.boot THEN
    n := greatest(h.seq, tidegate.floor_now()) + 1048576; -- later leaps land higher, whatever state they start from
    INSERT INTO tidegate.leap VALUES (h.seq, n, format('cluster %s timeline %s started %s -> cluster %s timeline %s started %s',
                                                       h.sysid, h.tli, h.boot, i.sysid, i.tli, i.boot));
    UPDATE tidegate.head SET seq = n, sysid = i.sysid, tli = i.tli, boot = i.boot;
    PERFORM pg_notify('tidegate', 'leap');
  END IF;
  PERFORM tidegate.ahead(n, p_size); -- in the same transaction as the leap
  RETURN n;
END $$;

CREATE FUNCTION tidegate.attrs_fault(p_attrs jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  n int;
BEGIN
  IF jsonb_typeof(p_attrs) <> 'object' THEN
    RETURN 'attrs: expected an object of strings, numbers and booleans';
  END IF;
  SELECT count(*) INTO n FROM jsonb_object_keys(p_attrs);
  IF octet_length(p_attrs::text) - greatest(2 * n - 1, 0) > 4096 THEN -- without the blanks behind ':' and ','
    RETURN 'attrs: are longer than 4096 bytes of JSON';
  END IF;
  IF p_attrs ? '' THEN
    RETURN 'attrs: a name is empty';
  END IF;
  IF EXISTS (SELECT 1 FROM jsonb_each(p_attrs) AS m WHERE jsonb_typeof(m.value) NOT IN ('string', 'number', 'boolean')) THEN
    RETURN 'attrs: expected strings, numbers and booleans as values';
  END IF;
  IF EXISTS (SELECT 1 FROM jsonb_each(p_attrs) AS m WHERE CASE WHEN jsonb_typeof(m.value) = 'number'
             THEN abs((m.value #>> '{}')::numeric) > 1.7976931348623157e308 ELSE false END) THEN
    RETURN 'attrs: a number is too large';
  END IF;
  RETURN NULL;
END $$;

-- why a row of the outbox cannot be an event; NULL: it can. One expression, so that the planner inlines it.
CREATE FUNCTION tidegate.fault(p_topic text, p_type text, p_data text, p_attrs jsonb, p_key text, p_created timestamptz,
                               p_max bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_topic = '' OR '/' || p_topic || '/' LIKE '%//%' THEN 'topic: has an empty segment (''/'' at the start or end, or ''//'')'
    WHEN octet_length(p_topic) > 255 THEN 'topic: is longer than 255 bytes'
    WHEN p_topic ~ '[\u0001-\u001f\u007f-\u009f]' THEN 'topic: holds a control character'
    WHEN strpos(p_topic, '*') > 0 THEN 'topic: holds ''*'', which only patterns may'
    WHEN octet_length(p_type) > 255 THEN 'type: is longer than 255 bytes'
    WHEN p_type ~ '[\r\n]' THEN 'type: holds CR or LF; it is sent on one line'
    WHEN p_key = '' THEN 'key: is empty; leave it out, or give each event its own'
    WHEN octet_length(p_key) > 255 THEN 'key: is longer than 255 bytes'
    WHEN p_key ~ '[\r\n]' THEN 'key: holds CR or LF'
    WHEN octet_length(p_data) > p_max THEN 'data: is longer than limits.event_bytes'
    WHEN p_created < '2001-09-09 01:46:40+00' OR p_created >= '2286-11-20 17:46:40+00' THEN 'created: expected a time between 2001 and 2286'
    WHEN p_attrs IS NOT NULL THEN tidegate.attrs_fault(p_attrs)
  END
$$;

-- One batch from the outbox to the events. n: rows taken, of them dup (key known) and bad (now in rejected). `last`: the
-- newest id then, which is what the notification says. The new events come with it, a row each, if their data is not longer
-- than p_give bytes, which saves reading them; else a single row, seq being NULL. READ COMMITTED only: the statement after the lock must have a
-- snapshot of its own. The planner settings that keep it on the primary key, where a long snapshot holds dead rows, are
-- the caller's: as settings of the function they would cost more than a batch of ten rows.
-- Since version 3: tidegate.drain_some() and tidegate.drain_one() of schema_3_ids.sql.
CREATE FUNCTION tidegate.drain(p_lo bigint, p_lim int, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint)
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, seq bigint, topic text, type text, data text, attrs text,
               key text, created timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  h bigint; bytes bigint;
BEGIN
  n := 0; dup := 0; bad := 0; last := 0; last_outbox := 0;
  PERFORM 1 FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT 1; -- idle: no lock, no WAL
  IF FOUND THEN
    SELECT head.seq INTO h FROM tidegate.head FOR UPDATE; -- serialises batches
    PERFORM tidegate.ahead(h, greatest(p_size, p_lim));
    WITH d AS MATERIALIZED (
           DELETE FROM tidegate.outbox o WHERE o.ctid = ANY (ARRAY(SELECT i.ctid FROM tidegate.outbox i WHERE i.id > p_lo ORDER BY i.id LIMIT p_lim))
           RETURNING o.*, tidegate.fault(o.topic, o.type, o.data, o.attrs, o.key, o.created, p_max) AS why),
         x AS MATERIALIZED (
           SELECT f.id FROM (SELECT d.id, row_number() OVER (PARTITION BY d.key ORDER BY d.id) > 1
                                    OR EXISTS (SELECT 1 FROM tidegate.dedup k WHERE k.key = d.key) AS isdup
                               FROM d WHERE p_dedup AND d.key IS NOT NULL AND d.why IS NULL) f WHERE f.isdup),
         s AS MATERIALIZED (SELECT h + row_number() OVER (ORDER BY d.id) AS seq, d.* FROM d
                             WHERE d.why IS NULL AND d.id <> ALL (ARRAY(SELECT x.id FROM x))),
         k AS (INSERT INTO tidegate.dedup SELECT s.key, s.seq, clock_timestamp() FROM s WHERE p_dedup AND s.key IS NOT NULL ORDER BY s.seq),
         e AS (INSERT INTO tidegate.events SELECT s.seq, s.topic, s.type, s.data, s.attrs, s.key, s.created, clock_timestamp() FROM s ORDER BY s.seq),
         r AS (INSERT INTO tidegate.rejected SELECT d.id, d.topic, d.type, d.data, d.attrs, d.key, d.created, d.why FROM d WHERE d.why IS NOT NULL)
    SELECT count(*), (SELECT count(*) FROM x), count(d.why), coalesce(max(d.id), 0), sum(octet_length(d.data))
      INTO n, dup, bad, last_outbox, bytes FROM d;
    last := h + n - dup - bad;
    IF last > h THEN
      UPDATE tidegate.head SET seq = last;
      PERFORM pg_notify('tidegate', last::text); -- one wake-up per batch
      IF bytes <= p_give THEN
        RETURN QUERY SELECT n, dup, bad, last, last_outbox, e.seq, e.topic, e.type, e.data, e.attrs::text, e.key, e.created
                       FROM tidegate.events e WHERE e.seq > h AND e.seq <= last ORDER BY e.seq;
        RETURN;
      END IF;
    END IF;
  END IF;
  RETURN NEXT;
END $$;

-- sets the first row behind p_lo aside that drain() fails on for a reason nobody has thought of
CREATE FUNCTION tidegate.park(p_lo bigint, p_reason text) RETURNS bigint LANGUAGE sql AS $$
  WITH d AS (DELETE FROM tidegate.outbox WHERE id = (SELECT id FROM tidegate.outbox WHERE id > p_lo ORDER BY id LIMIT 1) RETURNING *)
  INSERT INTO tidegate.rejected SELECT d.id, d.topic, d.type, d.data, d.attrs, d.key, d.created, p_reason FROM d RETURNING id
$$;

-- What a broker was asked to publish: one call per batch. Answers one row (first id, NULL) where each event got the id after
-- the one before it, else a row for each: a known key gets the first event's id. p_dedup: there are keys, and they count.
-- The same p_batch again (its answer was lost) stores nothing and answers the same.
-- Since version 3: tidegate.append() with p_known, of schema_3_ids.sql.
CREATE FUNCTION tidegate.append(p_writer uuid, p_batch bigint, p_size bigint, p_dedup boolean, p_topics text[], p_types text[],
                                p_datas text[], p_attrs text[], p_keys text[], p_created bigint[])
RETURNS TABLE (seq bigint, dup boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  h bigint; w tidegate.writer; n bigint := cardinality(p_topics);
BEGIN
  SELECT head.seq INTO h FROM tidegate.head FOR UPDATE;
  SELECT * INTO w FROM tidegate.writer WHERE id = p_writer;
  IF w.batch IS DISTINCT FROM p_batch THEN
    PERFORM tidegate.ahead(h, greatest(p_size, n));
    w.first := h + 1;
    w.ids := NULL;
    w.dups := NULL;
    IF p_dedup THEN
      WITH a AS (SELECT t.key, t.ord, row_number() OVER (PARTITION BY t.key ORDER BY t.ord) AS rk FROM unnest(p_keys) WITH ORDINALITY AS t(key, ord)),
           f AS (SELECT a.*, k.seq AS old, a.key IS NOT NULL AND (a.rk > 1 OR k.seq IS NOT NULL) AS isdup FROM a LEFT JOIN tidegate.dedup k ON k.key = a.key),
           s AS MATERIALIZED (SELECT f.*, CASE WHEN NOT isdup THEN h + row_number() OVER (PARTITION BY isdup ORDER BY f.ord) END AS nseq FROM f),
           k AS (INSERT INTO tidegate.dedup SELECT s.key, s.nseq, clock_timestamp() FROM s WHERE NOT isdup AND s.key IS NOT NULL)
      SELECT array_agg(coalesce(s.nseq, s.old, (SELECT min(x.nseq) FROM s AS x WHERE x.key = s.key)) ORDER BY s.ord), array_agg(s.isdup ORDER BY s.ord),
             count(*) FILTER (WHERE NOT isdup)
        INTO w.ids, w.dups, n FROM s;
      IF n = cardinality(p_topics) THEN
        w.ids := NULL;
        w.dups := NULL;
      END IF;
    END IF;
    INSERT INTO tidegate.events
      SELECT CASE WHEN w.ids IS NULL THEN h + t.ord ELSE w.ids[t.ord] END, t.topic, t.type, t.data, t.attrs::jsonb, t.key,
             timestamptz 'epoch' + t.created * interval '1 millisecond', clock_timestamp()
        FROM unnest(p_topics, p_types, p_datas, p_attrs, p_keys, p_created) WITH ORDINALITY AS t(topic, type, data, attrs, key, created, ord)
       WHERE w.dups IS NULL OR NOT w.dups[t.ord];
    IF n > 0 THEN
      UPDATE tidegate.head SET seq = h + n;
      PERFORM pg_notify('tidegate', (h + n)::text);
    END IF;
    INSERT INTO tidegate.writer VALUES (p_writer, p_batch, w.first, w.ids, w.dups, clock_timestamp())
      ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, first = excluded.first, ids = excluded.ids, dups = excluded.dups, at = excluded.at;
  END IF;
  IF w.ids IS NULL THEN
    RETURN QUERY SELECT w.first, NULL::boolean;
  ELSE
    RETURN QUERY SELECT t.i, t.d FROM unnest(w.ids, w.dups) WITH ORDINALITY AS t(i, d, ord) ORDER BY t.ord;
  END IF;
END $$;

-- how many ids of [p_lo, p_hi) were events: ids are dense but for the leaps
CREATE FUNCTION tidegate.population(p_lo bigint, p_hi bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT greatest(p_hi - p_lo, 0)
         - coalesce((SELECT sum(greatest(least(l.upto + 1, p_hi) - greatest(l.after + 1, p_lo), 0)) FROM tidegate.leap l), 0)::bigint
$$;

-- the greatest id that was handed out before p_at, 0: none. Ids are in order of `at`: binary search.
CREATE FUNCTION tidegate.seek(p_at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  lo bigint; hi bigint; mid bigint; e record; found_id bigint := 0;
BEGIN
  SELECT trimmed INTO lo FROM tidegate.retention;
  SELECT seq INTO hi FROM tidegate.head;
  WHILE lo < hi LOOP -- the answer, if there is one, is in (lo, hi] or found_id
    mid := lo + (hi - lo) / 2 + 1;
    IF mid > hi THEN
      mid := hi;
    END IF;
    SELECT seq, at INTO e FROM tidegate.events WHERE seq >= mid AND seq <= hi ORDER BY seq LIMIT 1;
    IF NOT FOUND OR e.at >= p_at THEN
      hi := mid - 1;
    ELSE
      found_id := e.seq;
      lo := e.seq;
    END IF;
  END LOOP;
  RETURN found_id;
END $$;

-- Removes what is too old, too many or too large (0: no bound): whole partitions at once, single rows only from the
-- partition that is being filled. Readers hold a partition's lock only shortly; where one does not, the next call tries again.
-- Since version 3: tidegate.retain_events(), retain_keys() and retain_rejected() of schema_3_ids.sql.
CREATE FUNCTION tidegate.retain(p_age_s bigint, p_events bigint, p_bytes bigint, p_key_s bigint, p_rows int)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql SET lock_timeout = '200ms' SET jit = off AS $$
DECLARE
  h bigint; was bigint; cut bigint := 0; held bigint; bytes numeric; p record; newest timestamptz; gone bigint := 0; n bigint;
  old timestamptz := clock_timestamp() - p_age_s * interval '1 second'; again boolean := false;
BEGIN
  PERFORM pg_advisory_xact_lock(1952736100, 2);
  SELECT seq INTO h FROM tidegate.head;
  SELECT trimmed INTO was FROM tidegate.retention;
  held := tidegate.population(was + 1, h + 1);
  IF p_bytes > 0 THEN
    SELECT coalesce(sum(pg_total_relation_size(format('tidegate.%I', q.name)::regclass)), 0) INTO bytes FROM tidegate.partition q;
  END IF;
  FOR p IN SELECT * FROM tidegate.partition q WHERE q.hi <= h ORDER BY q.lo LOOP
    n := tidegate.population(greatest(p.lo, was + 1), p.hi);
    newest := NULL;
    IF p_age_s > 0 THEN
      SELECT e.at INTO newest FROM tidegate.events e WHERE e.seq >= p.lo AND e.seq < p.hi ORDER BY e.seq DESC LIMIT 1;
    END IF;
    EXIT WHEN (n = 0 OR (p_age_s > 0 AND newest IS NULL) OR newest < old OR (p_events > 0 AND held - n >= p_events) OR (p_bytes > 0 AND bytes > p_bytes)) IS NOT TRUE;
    IF p_bytes > 0 THEN
      bytes := bytes - pg_total_relation_size(format('tidegate.%I', p.name)::regclass);
    END IF;
    EXECUTE format('DROP TABLE tidegate.%I', p.name);
    DELETE FROM tidegate.partition q WHERE q.lo = p.lo;
    held := held - n;
    gone := gone + n;
    cut := p.hi - 1;
    again := true;
    EXIT; -- one per transaction: the lock is held shortly
  END LOOP;
  IF NOT again THEN
    SELECT * INTO p FROM tidegate.partition q WHERE q.hi > h AND q.lo <= h;
    IF p_events > 0 AND held > p_events THEN
      SELECT max(t.seq) INTO cut FROM (SELECT e.seq FROM tidegate.events e WHERE e.seq > was ORDER BY e.seq LIMIT least(held - p_events, p_rows)) t
       WHERE t.seq >= p.lo;
    END IF;
    IF p_age_s > 0 THEN
      SELECT greatest(cut, max(t.seq)) INTO cut FROM (SELECT e.seq, e.at FROM tidegate.events e WHERE e.seq > was ORDER BY e.seq LIMIT p_rows) t
       WHERE t.at < old AND t.seq >= p.lo;
    END IF;
    IF cut > was THEN
      DELETE FROM tidegate.events e WHERE e.seq > was AND e.seq <= cut;
      GET DIAGNOSTICS gone = ROW_COUNT;
      again := gone >= p_rows;
    END IF;
  END IF;
  IF cut > was THEN
    UPDATE tidegate.retention SET trimmed = cut;
    DELETE FROM tidegate.leap l WHERE l.upto <= cut; -- who holds an id this old is told that history is missing anyway
  END IF;
  DELETE FROM tidegate.dedup k WHERE k.ctid = ANY (ARRAY(
    SELECT d.ctid FROM tidegate.dedup d WHERE d.at < clock_timestamp() - p_key_s * interval '1 second' LIMIT p_rows));
  GET DIAGNOSTICS n = ROW_COUNT;
  again := again OR n >= p_rows;
  DELETE FROM tidegate.rejected r WHERE r.ctid = ANY (ARRAY(
    SELECT d.ctid FROM tidegate.rejected d WHERE d.at < clock_timestamp() - interval '30 days' LIMIT p_rows));
  DELETE FROM tidegate.writer t WHERE t.at < clock_timestamp() - interval '7 days';
  RETURN QUERY SELECT gone, again;
END $$;

-- for operators: what is held, and who holds things up
CREATE FUNCTION tidegate.stats(OUT events bigint, OUT bytes bigint, OUT outbox_oldest_ms bigint, OUT open_publisher_ms bigint,
                               OUT xmin_age bigint, OUT rejected bigint) LANGUAGE sql STABLE AS $$
  SELECT tidegate.population((SELECT trimmed + 1 FROM tidegate.retention), (SELECT seq + 1 FROM tidegate.head)),
         (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
           WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relkind = 'r'),
         (SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(o.created)) * 1000, 0), 0)::bigint
            FROM (SELECT created FROM tidegate.outbox ORDER BY id LIMIT 1000) o),
         (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)) * 1000, 0)::bigint
            FROM pg_locks l JOIN pg_stat_activity a USING (pid)
           WHERE l.locktype = 'relation' AND l.relation = 'tidegate.outbox'::regclass AND l.mode = 'RowExclusiveLock'
             AND l.granted AND a.pid <> pg_backend_pid() AND a.application_name NOT LIKE 'tidegate %'),
         (SELECT coalesce(max(greatest(age(a.backend_xmin), 0)), 0)::bigint FROM pg_stat_activity a WHERE a.backend_xmin IS NOT NULL),
         (SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c WHERE c.oid = 'tidegate.rejected'::regclass)
$$;

REVOKE ALL ON ALL TABLES IN SCHEMA tidegate FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tidegate FROM PUBLIC;

INSERT INTO tidegate.head SELECT true, tidegate.floor_now(), sysid, tli, boot FROM tidegate.ident();
INSERT INTO tidegate.leap SELECT 0, seq, 'created' FROM tidegate.head;
INSERT INTO tidegate.retention VALUES (true, 0);
INSERT INTO tidegate.version VALUES (1);
