-- Version 2. Brokers of version 1 that run may go on while it is applied, and after it: their statements keep their
-- meaning, which is why tidegate.park() stays. They cannot be started again: version 1 refuses each newer schema.

-- A program may be started on a newer schema than it knows, if it knows this version at least; NULL: it may not.
ALTER TABLE tidegate.version ADD COLUMN compatible_from int;

-- What a broker was asked to publish: one call per batch. Answers one row (first id, NULL) where each event got the id after
-- the one before it, else a row for each: a known key gets the first event's id. p_dedup: there are keys, and they count.
-- The same p_batch again (its answer was lost) stores nothing and answers the same. An older one is the statement of a
-- connection that was given up: what became of its batch is settled, and the number of the newest must stay.
CREATE OR REPLACE FUNCTION tidegate.append(p_writer uuid, p_batch bigint, p_size bigint, p_dedup boolean, p_topics text[], p_types text[],
                                p_datas text[], p_attrs text[], p_keys text[], p_created bigint[])
RETURNS TABLE (seq bigint, dup boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  h bigint; w tidegate.writer; n bigint := cardinality(p_topics);
BEGIN
  SELECT head.seq INTO h FROM tidegate.head FOR UPDATE;
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

-- tidegate.drain() of a single row, the first behind p_lo; where that fails for what the row holds, for a reason nobody has
-- thought of, the row is set aside. In one transaction under the lock of the head: it is this row and no other, whatever is
-- committed meanwhile. Where it fails for where the row would go, every row would: the outbox waits.
CREATE FUNCTION tidegate.drain_row(p_lo bigint, p_size bigint, p_max bigint, p_dedup boolean, p_give bigint)
RETURNS TABLE (n int, dup int, bad int, last bigint, last_outbox bigint, seq bigint, topic text, type text, data text, attrs text,
               key text, created timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  row_id bigint; why text; tab text; con text;
BEGIN
  n := 0; dup := 0; bad := 0; last := 0; last_outbox := 0;
  PERFORM 1 FROM tidegate.head FOR UPDATE;
  SELECT o.id INTO row_id FROM tidegate.outbox o WHERE o.id > p_lo ORDER BY o.id LIMIT 1;
  IF FOUND THEN
    BEGIN
      SET CONSTRAINTS ALL IMMEDIATE; -- not at COMMIT, where nothing can be set aside any more
      RETURN QUERY SELECT * FROM tidegate.drain(row_id - 1, 1, p_size, p_max, p_dedup, p_give);
      RETURN;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN -- the whole classes
      GET STACKED DIAGNOSTICS why = MESSAGE_TEXT, tab = TABLE_NAME, con = CONSTRAINT_NAME;
      -- the id is taken (by its partition's primary key), or there is no partition for it: no constraint is named then
      IF EXISTS (SELECT 1 FROM pg_class c LEFT JOIN pg_constraint p ON p.conrelid = c.oid AND p.conname = con AND p.contype = 'p'
                  WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relname = tab AND tab ~ '^events(_|$)'
                    AND (p.oid IS NOT NULL OR con = '')) THEN
        RAISE EXCEPTION 'the outbox waits, for tidegate.head, tidegate.partition and tidegate.events contradict each other: %', why
          USING ERRCODE = 'object_not_in_prerequisite_state';
      END IF;
    END;
    WITH d AS (DELETE FROM tidegate.outbox o WHERE o.id = row_id RETURNING *)
    INSERT INTO tidegate.rejected SELECT d.id, d.topic, d.type, d.data, d.attrs, d.key, d.created, why FROM d;
    n := 1; bad := 1; last_outbox := row_id;
  END IF;
  RETURN NEXT;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tidegate FROM PUBLIC;
INSERT INTO tidegate.version VALUES (2);
