-- Version 9: events that expire. Brokers of versions 2 to 8 that run may go on while it is applied and after it, and be started on
-- it: their statements keep their names and their meaning. What they publish does not expire, what they move from the outbox
-- does, and what has expired they deliver all the same.

-- As in version 3: short tries, for who reads or publishes must not wait behind this. None of it rewrites or reads a table.
DO $$
BEGIN
  FOR i IN 1..60 LOOP
    BEGIN
      SET LOCAL lock_timeout = '200ms';
      -- the time from which on it is not delivered; NULL: never
      ALTER TABLE tidegate.outbox ADD COLUMN expires timestamptz;
      ALTER TABLE tidegate.outbox ADD CONSTRAINT "expires: a time between 2001 and 2286"
        CHECK (expires >= '2001-09-09 01:46:40+00' AND expires < '2286-11-20 17:46:40+00') NOT VALID;
      ALTER TABLE tidegate.events ADD COLUMN expires timestamptz;
      ALTER TABLE tidegate.latest ADD COLUMN expires timestamptz;
      SET LOCAL lock_timeout = '60s';
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF i = 60 THEN
        RAISE EXCEPTION 'a table of the schema tidegate was in use for a minute: end the transactions that pg_locks shows for outbox, events and latest (pid NULL: see pg_prepared_xacts), then migrate again'
          USING ERRCODE = 'lock_not_available';
      END IF;
    END;
    PERFORM pg_sleep(0.8);
  END LOOP;
END $$;
CREATE INDEX latest_expires ON tidegate.latest (expires) WHERE expires IS NOT NULL;

---------------------------------------------------------------- events

-- As in version 3, but for p_expires: Unix times in ms, NULL for none; NULL: no event of the batch expires.
CREATE FUNCTION tidegate.append(p_writer uuid, p_batch bigint, p_size bigint, p_known bigint, p_dedup boolean, p_topics text[], p_types text[],
                                p_datas text[], p_attrs text[], p_keys text[], p_created bigint[], p_expires bigint[])
RETURNS TABLE (seq bigint, dup boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  h bigint; w tidegate.writer; n bigint := cardinality(p_topics);
BEGIN
  h := tidegate.lock_head(p_size, p_known);
  SELECT * INTO w FROM tidegate.writer WHERE id = p_writer;
  IF p_batch < w.batch THEN
    RAISE EXCEPTION 'batch % of this writer comes after its batch %', p_batch, w.batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
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
             timestamptz 'epoch' + t.created * interval '1 millisecond', clock_timestamp(),
             timestamptz 'epoch' + t.expires * interval '1 millisecond'
        FROM unnest(p_topics, p_types, p_datas, p_attrs, p_keys, p_created, p_expires) WITH ORDINALITY
             AS t(topic, type, data, attrs, key, created, expires, ord)
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

CREATE OR REPLACE FUNCTION tidegate.append(p_writer uuid, p_batch bigint, p_size bigint, p_known bigint, p_dedup boolean, p_topics text[],
                                p_types text[], p_datas text[], p_attrs text[], p_keys text[], p_created bigint[]) -- of version 3
RETURNS TABLE (seq bigint, dup boolean) LANGUAGE sql AS $$
  SELECT * FROM tidegate.append(p_writer, p_batch, p_size, p_known, p_dedup, p_topics, p_types, p_datas, p_attrs, p_keys, p_created, NULL)
$$;

-- As tidegate.drain_some() of version 3, but that it answers when events expire.
CREATE FUNCTION tidegate.drain_events(p_lo bigint, p_rows int, p_bytes bigint, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint,
                                    p_known bigint)
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, more boolean, held_us bigint, stuck bigint, why text,
               stuck_bytes bigint, seq bigint, topic text, type text, data text, attrs text, key text, created timestamptz, expires timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  h bigint; bytes bigint; first_id bigint; first_bytes bigint; locked timestamptz; total bigint;
BEGIN
  n := 0; dup := 0; bad := 0; last := 0; last_outbox := 0; more := false; held_us := 0;
  SELECT o.id, octet_length(o.data) INTO first_id, first_bytes FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT 1;
  IF NOT FOUND THEN -- idle: no lock, no WAL
    RETURN NEXT;
    RETURN;
  END IF;
  IF first_bytes > greatest(p_max, 1048576) THEN
    n := tidegate.set_aside(first_id, 'data: is longer than limits.event_bytes', 67108864);
    bad := n; last_outbox := first_id; more := true;
    RETURN NEXT;
    RETURN;
  END IF;
  h := tidegate.lock_head(p_size, p_known); -- serialises batches
  locked := clock_timestamp();
  PERFORM tidegate.ahead(h, greatest(p_size, p_rows));
  WITH w AS MATERIALIZED (
         SELECT u.at, u.total FROM (
           SELECT i.ctid AS at, i.cost, count(*) OVER () AS total, sum(i.cost) OVER (ORDER BY i.id) AS used FROM (
             SELECT o.ctid, o.id, octet_length(o.data) + coalesce(pg_column_size(o.attrs), 0) AS cost
               FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT p_rows) i) u
          WHERE u.used <= p_bytes OR u.used = u.cost),
       d AS MATERIALIZED (
         DELETE FROM tidegate.outbox o WHERE o.ctid = ANY (ARRAY(SELECT w.at FROM w))
         RETURNING o.*, tidegate.fault(o.topic, o.type, o.data, o.attrs, o.key, o.created, p_max) AS why),
       x AS MATERIALIZED (
         SELECT f.id FROM (SELECT d.id, row_number() OVER (PARTITION BY d.key ORDER BY d.id) > 1
                                  OR EXISTS (SELECT 1 FROM tidegate.dedup k WHERE k.key = d.key) AS isdup
                             FROM d WHERE p_dedup AND d.key IS NOT NULL AND d.why IS NULL) f WHERE f.isdup),
       s AS MATERIALIZED (SELECT h + row_number() OVER (ORDER BY d.id) AS seq, d.* FROM d
                           WHERE d.why IS NULL AND d.id <> ALL (ARRAY(SELECT x.id FROM x))),
       k AS (INSERT INTO tidegate.dedup SELECT s.key, s.seq, clock_timestamp() FROM s WHERE p_dedup AND s.key IS NOT NULL ORDER BY s.seq),
       e AS (INSERT INTO tidegate.events SELECT s.seq, s.topic, s.type, s.data, s.attrs, s.key, s.created, clock_timestamp(), s.expires
               FROM s ORDER BY s.seq),
       r AS (INSERT INTO tidegate.rejected SELECT d.id, d.topic, d.type, d.data, d.attrs, d.key, d.created, d.why FROM d WHERE d.why IS NOT NULL)
  SELECT count(*), (SELECT count(*) FROM x), count(d.why), coalesce(max(d.id), 0), (SELECT max(w.total) FROM w),
         sum(100 + octet_length(d.data) + octet_length(d.topic) + coalesce(octet_length(d.type), 0) + coalesce(octet_length(d.key), 0)
             + coalesce(octet_length(d.attrs::text), 0)) FILTER (WHERE d.why IS NULL)
    INTO n, dup, bad, last_outbox, total, bytes FROM d;
  last := h + n - dup - bad;
  more := n >= p_rows OR total > n;
  IF last > h THEN
    UPDATE tidegate.head SET seq = last;
    PERFORM pg_notify('tidegate', last::text); -- one wake-up per batch
    held_us := extract(epoch FROM clock_timestamp() - locked) * 1000000;
    IF bytes <= p_give THEN
      RETURN QUERY SELECT n, dup, bad, last, last_outbox, more, held_us, stuck, why, stuck_bytes,
                          e.seq, e.topic, e.type, e.data, e.attrs::text, e.key, e.created, e.expires
                     FROM tidegate.events e WHERE e.seq > h AND e.seq <= last ORDER BY e.seq;
      RETURN;
    END IF;
  END IF;
  held_us := extract(epoch FROM clock_timestamp() - locked) * 1000000;
  RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION tidegate.drain_some(p_lo bigint, p_rows int, p_bytes bigint, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint,
                                    p_known bigint) -- of version 3; tidegate.drain_one() calls it
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, more boolean, held_us bigint, stuck bigint, why text,
               stuck_bytes bigint, seq bigint, topic text, type text, data text, attrs text, key text, created timestamptz)
LANGUAGE sql AS $$
  SELECT n, dup, bad, last, last_outbox, more, held_us, stuck, why, stuck_bytes, seq, topic, type, data, attrs, key, created
    FROM tidegate.drain_events(p_lo, p_rows, p_bytes, p_size, p_max, p_dedup, p_give, p_known)
$$;

CREATE OR REPLACE FUNCTION tidegate.drain(p_lo bigint, p_lim int, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint) -- of version 2
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, seq bigint, topic text, type text, data text, attrs text,
               key text, created timestamptz) LANGUAGE sql AS $$
  SELECT n, dup, bad, last, last_outbox, seq, topic, type, data, attrs, key, created
    FROM tidegate.drain_events(p_lo, p_lim, 9223372036854775807, p_size, p_max, p_dedup, p_give, 0)
$$;

---------------------------------------------------------------- the newest of each topic

-- As in versions 8 and 5, with `expires`.
CREATE OR REPLACE FUNCTION tidegate.latest_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  m text; room bigint; empty text[]; fresh bigint; gone bigint := 0;
BEGIN
  SELECT s.match, s.most - s.topics, (SELECT array_agg(DISTINCT r.topic) FROM added r WHERE r.data = '')
    INTO m, room, empty FROM tidegate.latest_state s;
  IF empty IS NOT NULL THEN
    SELECT coalesce(tidegate.latest_clear(array_agg(n.topic)), 0) INTO gone
      FROM (SELECT DISTINCT ON (r.topic) r.topic, r.data FROM added r WHERE r.topic = ANY (empty) AND r.topic ~ m
             ORDER BY r.topic, r.seq DESC) n
     WHERE n.data = '';
  END IF;
  WITH k AS (
    INSERT INTO tidegate.latest AS l (seq, topic, type, data, attrs, key, created, at, expires)
    SELECT n.seq, n.topic, n.type, n.data, n.attrs, n.key, n.created, n.at, n.expires
      FROM (SELECT DISTINCT ON (r.topic) r.* FROM added r WHERE r.topic ~ m ORDER BY r.topic, r.seq DESC) n
     WHERE n.data <> ''
    ON CONFLICT (topic) DO UPDATE SET seq = EXCLUDED.seq, type = EXCLUDED.type, data = EXCLUDED.data, attrs = EXCLUDED.attrs,
      key = EXCLUDED.key, created = EXCLUDED.created, at = EXCLUDED.at, expires = EXCLUDED.expires
    RETURNING l.xmax = 0 AS fresh)
  SELECT count(*) FILTER (WHERE k.fresh) INTO fresh FROM k;
  IF fresh > 0 AND fresh - gone > room THEN
    RAISE EXCEPTION 'topic: would be one more than store.latest_topics' USING ERRCODE = '23T01'; -- of the class of violated constraints
  END IF;
  IF fresh <> gone THEN
    UPDATE tidegate.latest_state SET topics = topics + fresh - gone;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tidegate.latest_step(p_patterns text[], p_most bigint, p_rows int, OUT topics bigint, OUT more boolean)
LANGUAGE plpgsql SET lock_timeout = '200ms' SET jit = off AS $$
#variable_conflict use_column
DECLARE
  s tidegate.latest_state; top bigint; fresh bigint;
BEGIN
  SELECT * INTO s FROM tidegate.latest_state;
  IF NOT (s.patterns @> p_patterns AND s.patterns <@ p_patterns) OR s.most <> p_most THEN
    PERFORM tidegate.latest_configure(p_patterns, p_most);
    SELECT * INTO s FROM tidegate.latest_state;
  END IF;
  IF s.done < s.upto THEN
    PERFORM 1 FROM tidegate.head FOR UPDATE;
    SELECT * INTO s FROM tidegate.latest_state;
    SELECT max(x.seq) INTO top FROM (SELECT e.seq FROM tidegate.events e WHERE e.seq > s.done AND e.seq <= s.upto ORDER BY e.seq LIMIT p_rows) x;
    top := coalesce(top, s.upto);
    WITH t AS MATERIALIZED (SELECT DISTINCT e.topic FROM tidegate.events e WHERE e.seq > s.done AND e.seq <= top AND e.topic ~ s.match),
         k AS MATERIALIZED (
           SELECT e.*, l.topic IS NULL AS fresh
             FROM t CROSS JOIN LATERAL (SELECT * FROM tidegate.events x WHERE x.topic = t.topic ORDER BY x.seq DESC LIMIT 1) e
                  LEFT JOIN tidegate.latest l ON l.topic = t.topic
            WHERE e.data <> '' AND (l.topic IS NULL OR l.seq < e.seq)),
         u AS (UPDATE tidegate.latest l SET seq = k.seq, type = k.type, data = k.data, attrs = k.attrs, key = k.key, created = k.created, at = k.at,
                                          expires = k.expires
                 FROM k WHERE NOT k.fresh AND l.topic = k.topic),
         i AS (INSERT INTO tidegate.latest SELECT k.seq, k.topic, k.type, k.data, k.attrs, k.key, k.created, k.at, k.expires FROM k WHERE k.fresh)
    SELECT count(*) FILTER (WHERE k.fresh) INTO fresh FROM k;
    UPDATE tidegate.latest_state SET done = top, topics = topics + fresh RETURNING * INTO s;
  END IF;
  topics := s.topics;
  more := s.done < s.upto;
END $$;

-- A step of the upkeep: topics whose newest event has expired are free.
CREATE FUNCTION tidegate.latest_expire(p_rows int) RETURNS bigint LANGUAGE plpgsql
  SET lock_timeout = '200ms' SET jit = off SET enable_seqscan = off AS $$
DECLARE
  t timestamptz := clock_timestamp(); gone bigint := 0;
BEGIN
  IF EXISTS (SELECT 1 FROM tidegate.latest l WHERE l.expires <= t) THEN
    PERFORM 1 FROM tidegate.head FOR UPDATE;
    WITH d AS (DELETE FROM tidegate.latest l WHERE l.topic = ANY (ARRAY(
                 SELECT x.topic FROM tidegate.latest x WHERE x.expires <= t ORDER BY x.expires LIMIT p_rows)) RETURNING 1)
    SELECT count(*) INTO gone FROM d;
    UPDATE tidegate.latest_state SET topics = topics - gone;
  END IF;
  RETURN gone;
END $$;

REVOKE ALL ON FUNCTION tidegate.latest_expire(int),
  tidegate.append(uuid, bigint, bigint, bigint, boolean, text[], text[], text[], text[], text[], bigint[], bigint[]),
  tidegate.drain_events(bigint, int, bigint, bigint, bigint, boolean, bigint, bigint) FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (9, 2);
