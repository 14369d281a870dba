-- Version 8: tidegate.latest_keep() of version 5 for a tenth of its cost. Brokers of versions 2 to 7 that run may go on while it
-- is applied and after it, and be started on it.
--
-- It joined what was added with tidegate.latest: by a plan that was made when that was small and held on to by each session,
-- so it read all of it for each statement. Here nothing is left to choose. A version that changes tidegate.latest, or what is
-- kept in it, changes this function, and not that of version 5.

-- Removes them; how many there were.
CREATE FUNCTION tidegate.latest_clear(p_topics text[]) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  gone bigint;
BEGIN
  DELETE FROM tidegate.latest l WHERE l.topic = ANY (p_topics);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$;

-- After each statement that inserts events, which is done under the lock of tidegate.head: one at a time, in the order of ids.
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
    INSERT INTO tidegate.latest AS l (seq, topic, type, data, attrs, key, created, at)
    SELECT n.seq, n.topic, n.type, n.data, n.attrs, n.key, n.created, n.at
      FROM (SELECT DISTINCT ON (r.topic) r.* FROM added r WHERE r.topic ~ m ORDER BY r.topic, r.seq DESC) n
     WHERE n.data <> ''
    ON CONFLICT (topic) DO UPDATE SET seq = EXCLUDED.seq, type = EXCLUDED.type, data = EXCLUDED.data, attrs = EXCLUDED.attrs,
      key = EXCLUDED.key, created = EXCLUDED.created, at = EXCLUDED.at
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

REVOKE ALL ON FUNCTION tidegate.latest_clear(text[]) FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (8, 2);
