-- Version 6: events that an operator takes out for good (tidegate erase). Brokers of versions 2 to 5 that run may go on while it
-- is applied and after it, and be started on it; they keep in memory what others erase.

-- The ids, by batch: each broker reads on from the batch that it has seen, and drops what it holds in memory. A notification
-- says when to look; one that is missed costs a broker no more than the time until its next look.
CREATE TABLE tidegate.erased (
  batch bigint NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (batch, seq)
);

-- The rows, and the keys that would say of a new event that it is known. Batches rise, also where an older copy of the
-- database has taken its place: numbers come from the clock. The lock makes them visible in their order. The head comes before
-- what its holders change, and late, for they wait meanwhile.
CREATE FUNCTION tidegate.erase(p_ids bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  b bigint; gone bigint[]; keys text[]; kept bigint[]; kept_keys text[];
BEGIN
  PERFORM pg_advisory_xact_lock(1952736100, 4);
  SELECT greatest(coalesce(max(batch) + 1, 0), tidegate.floor_now()) INTO b FROM tidegate.erased;
  WITH d AS (DELETE FROM tidegate.events WHERE seq = ANY (p_ids) RETURNING seq, key)
  SELECT array_agg(seq), array_agg(key) INTO gone, keys FROM d;
  IF EXISTS (SELECT 1 FROM tidegate.latest_state WHERE patterns <> '{}') THEN
    PERFORM 1 FROM tidegate.head FOR UPDATE;
    WITH d AS (DELETE FROM tidegate.latest WHERE seq = ANY (p_ids) RETURNING seq, key)
    SELECT array_agg(seq), array_agg(key) INTO kept, kept_keys FROM d;
    UPDATE tidegate.latest_state SET topics = topics - cardinality(kept) WHERE cardinality(kept) > 0;
  END IF;
  DELETE FROM tidegate.dedup WHERE key = ANY (keys || kept_keys) AND seq = ANY (p_ids);
  INSERT INTO tidegate.erased (batch, seq) SELECT b, i FROM unnest(p_ids) AS i;
  PERFORM pg_notify('tidegate', 'erased');
  RETURN (SELECT count(DISTINCT i) FROM unnest(gone || kept) AS i);
END $$;

-- What all brokers have seen by now.
CREATE FUNCTION tidegate.forget_erased() RETURNS bigint LANGUAGE sql AS $$
  WITH d AS (DELETE FROM tidegate.erased WHERE at < clock_timestamp() - interval '7 days' RETURNING 1) SELECT count(*) FROM d
$$;

REVOKE ALL ON FUNCTION tidegate.erase(bigint[]), tidegate.forget_erased() FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (6, 2);
