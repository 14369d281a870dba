-- Version 3. Brokers of version 2 that run may go on while it is applied and after it, and can be started again: all of
-- their statements keep their names and their meaning.

---------------------------------------------------------------- where ids continue

-- Where the head lives. Neither a dump that is restored brings these along, nor a copy of the database (CREATE DATABASE ...
-- TEMPLATE), nor rows that are put back into a truncated table.
ALTER TABLE tidegate.head ADD COLUMN db oid, ADD COLUMN rel oid, ADD COLUMN file oid;

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
  -- truncated: what is left of the events says how far retention had come
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

-- Events that somebody truncates are missed by those who have not read them: as if retention had taken them.
CREATE FUNCTION tidegate.truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tidegate.retention SET trimmed = greatest(trimmed, (SELECT max(h.seq) FROM tidegate.head h));
  RETURN NULL;
END $$;
CREATE TRIGGER truncated AFTER TRUNCATE ON tidegate.events FOR EACH STATEMENT EXECUTE FUNCTION tidegate.truncated();

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

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tidegate FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (3, 2);
