-- Version 3. Brokers of version 2 that run may go on while it is applied and after it, and can be started again: all of
-- their statements keep their names and their meaning.

---------------------------------------------------------------- what needs locks

-- TRUNCATE counts as retention: streams that have not read the events get a gap.
CREATE FUNCTION tidegate.truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tidegate.retention SET trimmed = greatest(trimmed, (SELECT max(h.seq) FROM tidegate.head h)), newest = clock_timestamp();
  RETURN NULL;
END $$;

-- Everything that locks a table, in one place and first: nothing below waits for a lock while these are held. A transaction that
-- has read or written one of the tables may stay open for long. Brokers and publishers must not wait behind it. So there is one
-- short try each second, and a try that fails lets go of all locks.
DO $$
BEGIN
  FOR i IN 1..60 LOOP
    BEGIN
      SET LOCAL lock_timeout = '200ms';
      -- Where the head lives. Neither a dump that is restored brings these along, nor a copy of the database (CREATE DATABASE ...
      -- TEMPLATE), nor rows that are put back into a truncated table.
      ALTER TABLE tidegate.head ADD COLUMN db oid, ADD COLUMN rel oid, ADD COLUMN file oid;
      -- No event that was removed got its id after this time. The default is right for what was removed before.
      ALTER TABLE tidegate.retention ADD COLUMN newest timestamptz NOT NULL DEFAULT clock_timestamp();
      CREATE TRIGGER truncated AFTER TRUNCATE ON tidegate.events FOR EACH STATEMENT EXECUTE FUNCTION tidegate.truncated();
      -- A program that writes a row that cannot be an event gets an error at once. NOT VALID: rows that wait already are checked
      -- when they are moved. Of attrs only the size in the table is checked here, which costs nothing; the rest is checked then, too.
      ALTER TABLE tidegate.outbox ADD CONSTRAINT "data: at most 64 MiB" CHECK (octet_length(data) <= 67108864) NOT VALID,
                                  ADD CONSTRAINT "attrs: at most 4096 bytes of JSON" CHECK (pg_column_size(attrs) <= 1048576) NOT VALID;
      -- has no key: under CREATE PUBLICATION ... FOR ALL TABLES nothing could be deleted
      ALTER TABLE tidegate.rejected REPLICA IDENTITY FULL;
      SET LOCAL lock_timeout = '60s';
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF i = 60 THEN
        RAISE EXCEPTION 'a table of the schema tidegate was in use for a minute: end the transactions that pg_locks shows for head, retention, events, outbox and rejected (pid NULL: see pg_prepared_xacts), then migrate again'
          USING ERRCODE = 'lock_not_available';
      END IF;
    END;
    PERFORM pg_sleep(0.8);
  END LOOP;
END $$;

-- Events that are there are younger than those that were removed before them.
UPDATE tidegate.retention SET newest = CASE WHEN trimmed = 0 THEN '-infinity'
  ELSE coalesce((SELECT e.at FROM tidegate.events e ORDER BY e.seq LIMIT 1), newest) END;

---------------------------------------------------------------- where ids continue

CREATE FUNCTION tidegate.place(OUT db oid, OUT rel oid, OUT file oid) LANGUAGE sql STABLE AS $$
  SELECT (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()),
         'tidegate.head'::regclass::oid, pg_relation_filenode('tidegate.head'::regclass)
$$;

UPDATE tidegate.head SET (db, rel, file) = (SELECT p.db, p.rel, p.file FROM tidegate.place() p);

-- After every connect, before the first id is handed out: is this the server, and the table, that handed out the newest id?
-- If not (failover, restore, a copy, rows removed by hand), ids that nobody here knows of may be out there, and all that may
-- be are leapt over. Where nothing was lost the leap is harmless: nobody holds an id within it. p_known: the newest id that
-- the broker has seen, which the database cannot forge; 0: none.
CREATE FUNCTION tidegate.lead(p_size bigint, p_known bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  h record; i record; p record; here bigint; n bigint; why text; -- records: the function outlives a table that is made anew
BEGIN
  SELECT * INTO h FROM tidegate.head FOR UPDATE;
  IF NOT FOUND THEN -- no row that would make others wait: who makes it anew?
    LOCK TABLE tidegate.head IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO h FROM tidegate.head FOR UPDATE;
  END IF;
  SELECT * INTO i FROM tidegate.ident();
  SELECT * INTO p FROM tidegate.place();
  -- the newest id that this database shows, whatever became of the head
  here := greatest(h.seq, (SELECT max(l.upto) FROM tidegate.leap l), (SELECT max(r.trimmed) FROM tidegate.retention r),
                   (SELECT max(e.seq) FROM tidegate.events e WHERE e.seq > coalesce(h.seq, 0)), 0);
  why := CASE
    WHEN h.seq IS NULL THEN 'made anew: tidegate.head was empty'
    WHEN h.sysid <> i.sysid OR h.tli <> i.tli OR h.boot <> i.boot THEN
      format('cluster %s timeline %s started %s -> cluster %s timeline %s started %s', h.sysid, h.tli, h.boot, i.sysid, i.tli, i.boot)
    WHEN (h.db, h.rel, h.file) IS DISTINCT FROM (p.db, p.rel, p.file) THEN
      format('restored or copied: database %s table %s file %s -> database %s table %s file %s', h.db, h.rel, h.file, p.db, p.rel, p.file)
    WHEN h.seq < greatest(here, p_known) THEN
      format('set back to %s: id %s has been handed out', h.seq, greatest(here, p_known))
    WHEN NOT EXISTS (SELECT 1 FROM tidegate.retention) THEN 'made anew: tidegate.retention was empty'
  END;
  IF why IS NULL THEN
    PERFORM tidegate.ahead(h.seq, p_size);
    RETURN h.seq;
  END IF;
  IF NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = 'tidegate.events'::regclass AND t.tgname = 'truncated') THEN
    RAISE EXCEPTION 'the schema is not complete (tidegate.events has no trigger "truncated", which a restore makes last): is a restore under way?'
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  n := greatest(here, p_known, tidegate.floor_now()) + 1048576; -- later leaps land higher, whatever state they start from
  INSERT INTO tidegate.leap VALUES (here, n, why);
  INSERT INTO tidegate.head VALUES (true, n, i.sysid, i.tli, i.boot, p.db, p.rel, p.file)
    ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, sysid = excluded.sysid, tli = excluded.tli, boot = excluded.boot,
                                    db = excluded.db, rel = excluded.rel, file = excluded.file;
  -- truncated: what is left of the events says how far retention had come, nothing how old what it removed was
  INSERT INTO tidegate.retention SELECT true, coalesce((SELECT min(e.seq) - 1 FROM tidegate.events e), here) ON CONFLICT DO NOTHING;
  PERFORM tidegate.ahead(n, p_size); -- in the same transaction as the leap
  PERFORM pg_notify('tidegate', 'leap');
  RETURN n;
END $$;

CREATE OR REPLACE FUNCTION tidegate.lead(p_size bigint) RETURNS bigint LANGUAGE sql AS 'SELECT tidegate.lead(p_size, 0)'; -- of version 2

-- The newest id, under the lock that serialises all who hand out ids: every batch begins with it. A restore under running
-- brokers ends no connection, so lead() after a connect is not enough. Answers above the leap where there must be one.
CREATE FUNCTION tidegate.lock_head(p_size bigint, p_known bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  h record;
BEGIN
  SELECT * INTO h FROM tidegate.head FOR UPDATE;
  IF h.seq >= p_known AND (h.db, h.rel, h.file) = (SELECT p.db, p.rel, p.file FROM tidegate.place() p) THEN
    RETURN h.seq;
  END IF;
  RETURN tidegate.lead(p_size, p_known);
END $$;

---------------------------------------------------------------- partitions

-- As before, but serialised by a lock that needs a right on the table: any role may take an advisory lock. Brokers of version 2
-- call this function, too. A caller of the old one held a lock of tidegate.head, so it has ended by now.
CREATE OR REPLACE FUNCTION tidegate.ahead(p_seq bigint, p_size bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  top bigint; lo bigint; nm text;
BEGIN
  SELECT max(hi) INTO top FROM tidegate.partition;
  IF top > p_seq + p_size THEN
    RETURN top;
  END IF;
  LOCK TABLE tidegate.partition IN SHARE UPDATE EXCLUSIVE MODE; -- against other brokers; the next statement sees what they made
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

---------------------------------------------------------------- events

-- As before, but that p_known is the newest id that the broker has seen.
CREATE FUNCTION tidegate.append(p_writer uuid, p_batch bigint, p_size bigint, p_known bigint, p_dedup boolean, p_topics text[], p_types text[],
                                p_datas text[], p_attrs text[], p_keys text[], p_created bigint[])
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

CREATE OR REPLACE FUNCTION tidegate.append(p_writer uuid, p_batch bigint, p_size bigint, p_dedup boolean, p_topics text[], p_types text[],
                                p_datas text[], p_attrs text[], p_keys text[], p_created bigint[]) -- of version 2
RETURNS TABLE (seq bigint, dup boolean) LANGUAGE sql AS $$
  SELECT * FROM tidegate.append(p_writer, p_batch, p_size, 0, p_dedup, p_topics, p_types, p_datas, p_attrs, p_keys, p_created)
$$;

-- As before, but for the way to the lock.
CREATE OR REPLACE FUNCTION tidegate.drain(p_lo bigint, p_lim int, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint)
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, seq bigint, topic text, type text, data text, attrs text,
               key text, created timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  h bigint; bytes bigint;
BEGIN
  n := 0; dup := 0; bad := 0; last := 0; last_outbox := 0;
  PERFORM 1 FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT 1; -- idle: no lock, no WAL
  IF FOUND THEN
    h := tidegate.lock_head(p_size, 0); -- serialises batches
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

---------------------------------------------------------------- batches that fit

-- Moves a row of the outbox to the rejected ones. Of data longer than p_keep bytes only the beginning is kept: what is too
-- large to be moved in time is too large to be moved here, too. Needs no lock but that of the row.
CREATE FUNCTION tidegate.set_aside(p_id bigint, p_reason text, p_keep bigint) RETURNS int LANGUAGE sql AS $$
  WITH d AS (DELETE FROM tidegate.outbox o WHERE o.id = p_id RETURNING *),
       r AS (INSERT INTO tidegate.rejected
             SELECT d.id, d.topic, d.type, CASE WHEN octet_length(d.data) > p_keep THEN left(d.data, 4096) ELSE d.data END,
                    CASE WHEN pg_column_size(d.attrs) <= p_keep THEN d.attrs END, d.key, d.created,
                    p_reason || CASE WHEN octet_length(d.data) > p_keep
                                     THEN format(' (%s bytes, of which the first 4096 characters are kept here)', octet_length(d.data)) ELSE '' END
               FROM d RETURNING 1)
  SELECT count(*)::int FROM r
$$;

-- One batch from the outbox to the events, as tidegate.drain() of version 1, bounded by p_bytes of data, too, but for the first
-- row. `more`: there are rows behind the batch. `held_us`: how long the head was locked, but for the COMMIT. The answer is
-- sent under that lock: p_give counts everything in it, so that it fits into the socket of a broker that does not read.
-- A large row that cannot be an event is moved without the lock, alone. p_known: the newest id that the broker has seen.
CREATE FUNCTION tidegate.drain_some(p_lo bigint, p_rows int, p_bytes bigint, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint,
                                    p_known bigint)
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, more boolean, held_us bigint, stuck bigint, why text,
               stuck_bytes bigint, seq bigint, topic text, type text, data text, attrs text, key text, created timestamptz)
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
       e AS (INSERT INTO tidegate.events SELECT s.seq, s.topic, s.type, s.data, s.attrs, s.key, s.created, clock_timestamp() FROM s ORDER BY s.seq),
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
                          e.seq, e.topic, e.type, e.data, e.attrs::text, e.key, e.created
                     FROM tidegate.events e WHERE e.seq > h AND e.seq <= last ORDER BY e.seq;
      RETURN;
    END IF;
  END IF;
  held_us := extract(epoch FROM clock_timestamp() - locked) * 1000000;
  RETURN NEXT;
END $$;

-- The same of a single row, the first behind p_lo. Where that fails for what the row holds it is set aside, in the same
-- transaction under the lock of the head: it is this row and no other, whatever is committed meanwhile. Where it fails for
-- where the row would go, every row would: the outbox waits. Where it takes too much time or memory, `stuck` is the row, and `why`
-- begins with the SQLSTATE; who has seen that often enough asks to have it set aside: p_aside (0: nothing) and why.
CREATE FUNCTION tidegate.drain_one(p_lo bigint, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint, p_known bigint,
                                   p_aside bigint, p_why text)
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, more boolean, held_us bigint, stuck bigint, why text,
               stuck_bytes bigint, seq bigint, topic text, type text, data text, attrs text, key text, created timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  row_id bigint; bytes bigint; fault text; tab text; con text; locked timestamptz;
BEGIN
  n := 0; dup := 0; bad := 0; last := 0; last_outbox := 0; more := false; held_us := 0;
  IF p_aside > 0 THEN
    n := tidegate.set_aside(p_aside, p_why, 1048576);
    bad := n; last_outbox := p_aside; more := true;
    RETURN NEXT;
    RETURN;
  END IF;
  SELECT o.id, octet_length(o.data) INTO row_id, bytes FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT 1;
  IF NOT FOUND THEN
    RETURN NEXT;
    RETURN;
  END IF;
  IF bytes <= greatest(p_max, 1048576) THEN
    PERFORM tidegate.lock_head(p_size, p_known);
    locked := clock_timestamp();
    SELECT o.id, octet_length(o.data) INTO row_id, bytes FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT 1;
    IF NOT FOUND THEN -- another broker was faster
      RETURN NEXT;
      RETURN;
    END IF;
  END IF;
  BEGIN
    SET CONSTRAINTS ALL IMMEDIATE; -- not at COMMIT, where nothing can be set aside any more
    RETURN QUERY SELECT * FROM tidegate.drain_some(row_id - 1, 1, 1, p_size, p_max, p_dedup, p_give, p_known);
    RETURN;
  EXCEPTION
    WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN -- the whole classes
      GET STACKED DIAGNOSTICS fault = MESSAGE_TEXT, tab = TABLE_NAME, con = CONSTRAINT_NAME;
    WHEN query_canceled OR out_of_memory OR internal_error THEN
      GET STACKED DIAGNOSTICS fault = RETURNED_SQLSTATE, why = MESSAGE_TEXT;
      why := fault || ' ' || why;
      stuck := row_id; stuck_bytes := bytes; more := true;
      held_us := coalesce(extract(epoch FROM clock_timestamp() - locked) * 1000000, 0);
      RETURN NEXT;
      RETURN;
  END;
  -- the id is taken (by its partition's primary key), or there is no partition for it: no constraint is named then
  IF EXISTS (SELECT 1 FROM pg_class c LEFT JOIN pg_constraint p ON p.conrelid = c.oid AND p.conname = con AND p.contype = 'p'
              WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relname = tab AND tab ~ '^events(_|$)'
                AND (p.oid IS NOT NULL OR con = '')) THEN
    RAISE EXCEPTION 'the outbox waits, for tidegate.head, tidegate.partition and tidegate.events contradict each other: %', fault
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  n := tidegate.set_aside(row_id, fault, 67108864);
  bad := n; last_outbox := row_id; more := true;
  RETURN NEXT;
END $$;

---------------------------------------------------------------- upkeep

-- Retention in steps, so that one that fails does not keep the others from their work.

-- Events that are too old, too many or too large (0: no bound): whole partitions at once, single rows only from the partition
-- that is being filled. A DROP that waits for a reader makes everybody wait behind it. So it is not tried while
-- somebody reads for longer than a moment: that one is named.
CREATE FUNCTION tidegate.retain_events(p_age_s bigint, p_events bigint, p_bytes bigint, p_rows int)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql SET lock_timeout = '100ms' SET jit = off AS $$
DECLARE
  h bigint; was bigint; cut bigint := 0; held bigint; bytes numeric; p record; b record; latest timestamptz; gone bigint := 0; n bigint;
  old timestamptz := clock_timestamp() - p_age_s * interval '1 second'; again boolean := false;
BEGIN
  LOCK TABLE tidegate.partition IN SHARE UPDATE EXCLUSIVE MODE; -- see ahead()
  SELECT seq INTO h FROM tidegate.head;
  SELECT trimmed INTO was FROM tidegate.retention;
  held := tidegate.population(was + 1, h + 1);
  IF p_bytes > 0 THEN
    SELECT coalesce(sum(pg_total_relation_size(format('tidegate.%I', q.name)::regclass)), 0) INTO bytes FROM tidegate.partition q;
  END IF;
  SELECT * INTO p FROM tidegate.partition q WHERE q.hi <= h ORDER BY q.lo LIMIT 1; -- one per transaction: the lock is held shortly
  IF FOUND THEN
    n := tidegate.population(greatest(p.lo, was + 1), p.hi);
    SELECT e.at INTO latest FROM tidegate.events e WHERE e.seq >= p.lo AND e.seq < p.hi ORDER BY e.seq DESC LIMIT 1;
    IF n = 0 OR (p_age_s > 0 AND (latest IS NULL OR latest < old)) OR (p_events > 0 AND held - n >= p_events) OR (p_bytes > 0 AND bytes > p_bytes) THEN
      SELECT l.pid, a.application_name, a.state_change INTO b
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
       WHERE l.locktype = 'relation' AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
         AND l.relation IN ('tidegate.events'::regclass, format('tidegate.%I', p.name)::regclass)
         AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
         AND (l.pid IS NULL OR a.state_change < clock_timestamp() - interval '200 milliseconds')
       ORDER BY a.state_change LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION 'tidegate.% cannot be dropped: % uses it since %', p.name,
          coalesce(format('process %s (%s)', b.pid, b.application_name), 'a prepared transaction'), coalesce(b.state_change::text, 'it was prepared')
          USING ERRCODE = 'lock_not_available';
      END IF;
      EXECUTE format('DROP TABLE tidegate.%I', p.name);
      DELETE FROM tidegate.partition q WHERE q.lo = p.lo;
      gone := n;
      cut := p.hi - 1;
      again := true;
    END IF;
  END IF;
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
      WITH d AS (DELETE FROM tidegate.events e WHERE e.seq > was AND e.seq <= cut RETURNING e.at)
      SELECT count(*), max(d.at) INTO gone, latest FROM d;
      again := gone >= p_rows;
    END IF;
  END IF;
  IF cut > was THEN
    UPDATE tidegate.retention SET trimmed = cut, newest = greatest(newest, latest); -- of nothing: as it was
    DELETE FROM tidegate.leap l WHERE l.upto <= cut; -- who holds an id this old is told that history is missing anyway
  END IF;
  RETURN QUERY SELECT gone, again;
END $$;

-- Each answers how many rows it has removed.
CREATE FUNCTION tidegate.retain_keys(p_key_s bigint, p_rows int) RETURNS bigint LANGUAGE sql AS $$
  WITH d AS (DELETE FROM tidegate.dedup k WHERE k.ctid = ANY (ARRAY(
    SELECT o.ctid FROM tidegate.dedup o WHERE o.at < clock_timestamp() - p_key_s * interval '1 second' LIMIT p_rows)) RETURNING 1)
  SELECT count(*) FROM d
$$;
CREATE FUNCTION tidegate.retain_rejected(p_rows int) RETURNS bigint LANGUAGE sql AS $$
  WITH d AS (DELETE FROM tidegate.rejected r WHERE r.ctid = ANY (ARRAY(
    SELECT o.ctid FROM tidegate.rejected o WHERE o.at < clock_timestamp() - interval '30 days' LIMIT p_rows)) RETURNING 1)
  SELECT count(*) FROM d
$$;
CREATE FUNCTION tidegate.retain_writers() RETURNS bigint LANGUAGE sql AS $$
  WITH d AS (DELETE FROM tidegate.writer t WHERE t.at < clock_timestamp() - interval '7 days' RETURNING 1) SELECT count(*) FROM d
$$;

CREATE OR REPLACE FUNCTION tidegate.retain(p_age_s bigint, p_events bigint, p_bytes bigint, p_key_s bigint, p_rows int) -- of version 2
RETURNS TABLE (removed bigint, more boolean) LANGUAGE sql AS $$
  SELECT e.removed, e.more OR k.n >= p_rows
    FROM tidegate.retain_events(p_age_s, p_events, p_bytes, p_rows) e, tidegate.retain_keys(p_key_s, p_rows) k(n),
         tidegate.retain_rejected(p_rows) r, tidegate.retain_writers() w
$$;

-- The greatest id that was handed out before p_at, 0: none. Ids are in order of `at`: binary search. Where all that are left
-- are younger, and all that were removed were older, it is the last that was removed.
CREATE OR REPLACE FUNCTION tidegate.seek(p_at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  lo bigint; hi bigint; mid bigint; e record; found_id bigint;
BEGIN
  SELECT r.trimmed, CASE WHEN r.newest < p_at THEN r.trimmed ELSE 0 END INTO lo, found_id FROM tidegate.retention r;
  SELECT h.seq INTO hi FROM tidegate.head h;
  WHILE lo < hi LOOP -- the answer, if there is one, is in (lo, hi] or found_id
    mid := lo + (hi - lo) / 2 + 1;
    IF mid > hi THEN
      mid := hi;
    END IF;
    SELECT x.seq, x.at INTO e FROM tidegate.events x WHERE x.seq >= mid AND x.seq <= hi ORDER BY x.seq LIMIT 1;
    IF NOT FOUND OR e.at >= p_at THEN
      hi := mid - 1;
    ELSE
      found_id := e.seq;
      lo := e.seq;
    END IF;
  END LOOP;
  RETURN coalesce(found_id, 0);
END $$;

-- Ends sessions of brokers that wait for their broker to read what they send, and so keep what they have locked: it is frozen, and
-- the network does not find that out (a Unix socket has no timeout, a kernel goes on acknowledging). Past their statement_timeout
-- of 10 s, which is not looked at in there: whatever they were doing would be undone anyway.
CREATE FUNCTION tidegate.end_unread() RETURNS int LANGUAGE sql VOLATILE AS $$
  SELECT count(pg_terminate_backend(a.pid))::int FROM pg_stat_activity a
   WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid()
     AND a.application_name IN ('tidegate sequencer', 'tidegate append', 'tidegate tail', 'tidegate history')
     AND a.state = 'active' AND a.wait_event = 'ClientWrite' AND a.state_change < clock_timestamp() - interval '11 seconds'
$$;

-- For operators: what is held, and who holds things up. A prepared transaction has no session; a replication slot has none either
-- while its consumer is away.
CREATE FUNCTION tidegate.figures(OUT events bigint, OUT bytes bigint, OUT outbox_oldest_ms bigint, OUT open_publisher_ms bigint,
                                 OUT xmin_age bigint, OUT rejected bigint, OUT outbox_first bigint, OUT partitions bigint, OUT locks bigint)
LANGUAGE sql STABLE AS $$
  SELECT tidegate.population((SELECT trimmed + 1 FROM tidegate.retention), (SELECT seq + 1 FROM tidegate.head)),
         (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
           WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relkind = 'r'),
         (SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(o.created)) * 1000, 0), 0)::bigint
            FROM (SELECT created FROM tidegate.outbox ORDER BY id LIMIT 1000) o),
         (SELECT coalesce(greatest(max(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))) * 1000, 0), 0)::bigint
            FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
                 LEFT JOIN pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
                                         AND x.virtualtransaction = l.virtualtransaction
                 LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
           WHERE l.locktype = 'relation' AND l.relation = 'tidegate.outbox'::regclass AND l.mode = 'RowExclusiveLock'
             AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
             AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
             AND coalesce(a.application_name, '') NOT LIKE 'tidegate %'),
         (SELECT coalesce(max(greatest(x.old, 0)), 0)::bigint FROM (
            SELECT age(a.backend_xmin) AS old FROM pg_stat_activity a
            UNION ALL SELECT age(p.transaction) FROM pg_prepared_xacts p
            UNION ALL SELECT greatest(age(s.xmin), age(s.catalog_xmin)) FROM pg_replication_slots s) x),
         (SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c WHERE c.oid = 'tidegate.rejected'::regclass),
         coalesce((SELECT o.id FROM tidegate.outbox o ORDER BY o.id LIMIT 1), 0),
         (SELECT count(*) FROM tidegate.partition),
         current_setting('max_locks_per_transaction')::bigint
           * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)
$$;
CREATE OR REPLACE FUNCTION tidegate.stats(OUT events bigint, OUT bytes bigint, OUT outbox_oldest_ms bigint, OUT open_publisher_ms bigint,
                                          OUT xmin_age bigint, OUT rejected bigint) LANGUAGE sql STABLE AS $$
  SELECT f.events, f.bytes, f.outbox_oldest_ms, f.open_publisher_ms, f.xmin_age, f.rejected FROM tidegate.figures() f
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tidegate FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (3, 2);
