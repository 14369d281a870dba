-- Version 11: tidegate.latest follows the events, instead of changing with each of them. Brokers of versions 2 to 10 that run may go on
-- while it is applied and after it, and be started on it: their statements keep their names and their meaning. Those of versions 5
-- to 10 read the newest events as soon as none is left to be folded.
--
-- Events up to `done` of tidegate.latest_state are in tidegate.latest. Those behind it are folded in, many at a time, of each topic the
-- newest only: before somebody reads, and by the upkeep. So a publish costs no row of its own in there.
-- Who changes tidegate.latest or tidegate.latest_state locks the row of the latter first, and the head before that or not at all.

-- Topics whose newest event was erased before it was folded: no older one takes its place.
CREATE TABLE tidegate.latest_gone (
  topic text COLLATE "C" PRIMARY KEY,
  seq bigint NOT NULL
);

---------------------------------------------------------------- folding

-- Events behind `done` up to p_upto, at most p_rows of them. `fresh`: topics that there were none of. Nothing older ever replaces something
-- newer, and in the end each topic has what its last event says. Plans do not depend on what was analyzed: events by id, topics by the key.
CREATE FUNCTION tidegate.latest_fold_some(p_upto bigint, p_rows bigint, OUT fresh bigint, OUT done bigint, OUT topics bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
  s tidegate.latest_state; top bigint := p_upto; ids bigint[]; empty text[]; n bigint; gone bigint := 0;
BEGIN
  SELECT * INTO s FROM tidegate.latest_state FOR UPDATE;
  fresh := 0;
  IF s.done < p_upto THEN
    IF p_upto - s.done > p_rows THEN
      SELECT CASE WHEN count(*) < p_rows THEN p_upto ELSE max(x.seq) END INTO top
        FROM (SELECT e.seq FROM tidegate.events e WHERE e.seq > s.done AND e.seq <= p_upto ORDER BY e.seq LIMIT p_rows) x;
    END IF;
    SELECT array_agg(x.seq ORDER BY x.seq) INTO ids -- OFFSET: the topics are matched, not the events
      FROM (SELECT e.topic, max(e.seq) AS seq FROM tidegate.events e WHERE e.seq > s.done AND e.seq <= top GROUP BY e.topic OFFSET 0) x
     WHERE x.topic ~ s.match;
    IF ids IS NOT NULL THEN
      WITH n AS MATERIALIZED (SELECT e.* FROM tidegate.events e WHERE e.seq = ANY (ids) AND e.seq > s.done AND e.seq <= top),
           k AS (INSERT INTO tidegate.latest AS l (seq, topic, type, data, attrs, key, created, at, expires)
                 SELECT n.seq, n.topic, n.type, n.data, n.attrs, n.key, n.created, n.at, n.expires FROM n WHERE n.data <> ''
                     ON CONFLICT (topic) DO UPDATE SET seq = EXCLUDED.seq, type = EXCLUDED.type, data = EXCLUDED.data,
                        attrs = EXCLUDED.attrs, key = EXCLUDED.key, created = EXCLUDED.created, at = EXCLUDED.at, expires = EXCLUDED.expires
                        WHERE l.seq < EXCLUDED.seq
                 RETURNING l.xmax = 0 AS fresh)
      SELECT count(*) FILTER (WHERE k.fresh), (SELECT array_agg(n.topic) FROM n WHERE n.data = '') INTO fresh, empty FROM k;
    END IF;
    IF empty IS NOT NULL THEN
      DELETE FROM tidegate.latest l WHERE l.topic = ANY (empty) AND l.seq <= top;
      GET DIAGNOSTICS gone = ROW_COUNT;
    END IF;
    IF EXISTS (SELECT 1 FROM tidegate.latest_gone) THEN
      DELETE FROM tidegate.latest l WHERE l.topic = ANY (ARRAY(SELECT g.topic FROM tidegate.latest_gone g))
         AND EXISTS (SELECT 1 FROM tidegate.latest_gone g WHERE g.topic = l.topic AND g.seq > l.seq);
      GET DIAGNOSTICS n = ROW_COUNT;
      gone := gone + n;
      DELETE FROM tidegate.latest_gone g WHERE g.seq <= top;
    END IF;
    UPDATE tidegate.latest_state x SET done = top, topics = x.topics + latest_fold_some.fresh - gone RETURNING x.* INTO s;
  END IF;
  done := s.done;
  topics := s.topics;
END $$;

-- With each batch of events, which is in the order of ids and under the lock of the head. As long as there is room in store.latest_topics
-- for as many topics as events are yet to be folded, nothing can be refused. Where half of the room is taken up by those, some are folded:
-- none where somebody is at it. Where all is, whether a topic would be one too many is found out exactly.
CREATE FUNCTION tidegate.latest_follow() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  s tidegate.latest_state; fresh bigint;
BEGIN
  SELECT * INTO s FROM tidegate.latest_state;
  IF s.done < s.upto OR NEW.seq - s.done <= (s.most - s.topics) / 2 THEN
    RETURN NULL;
  END IF;
  IF NEW.seq - s.done <= s.most - s.topics THEN
    PERFORM 1 FROM tidegate.latest_state FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
      PERFORM tidegate.latest_fold_some(OLD.seq, 1000);
    END IF;
    RETURN NULL;
  END IF;
  SELECT f.done, f.topics INTO s.done, s.topics FROM tidegate.latest_fold_some(OLD.seq, 9223372036854775807) f;
  IF NEW.seq - s.done > s.most - s.topics THEN
    SELECT f.fresh, f.topics INTO fresh, s.topics FROM tidegate.latest_fold_some(NEW.seq, 9223372036854775807) f;
    IF fresh > 0 AND s.topics > s.most THEN
      RAISE EXCEPTION 'topic: would be one more than store.latest_topics' USING ERRCODE = '23T01'; -- of the class of violated constraints
    END IF;
  END IF;
  RETURN NULL;
END $$;

-- Of a broker that is about to read the newest events up to p_upto: all that are there are folded, at most p_rows of them. Answers up to
-- where that is done. Who reads waits neither for the disk nor for standbys: what a crash takes back is folded again.
CREATE FUNCTION tidegate.latest_fold(p_patterns text[], p_upto bigint, p_rows int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  s tidegate.latest_state; h bigint;
BEGIN
  SELECT * INTO s FROM tidegate.latest_state;
  SELECT d.seq INTO h FROM tidegate.head d;
  IF s.done >= s.upto AND s.done < least(p_upto, h) AND s.patterns @> p_patterns AND s.patterns <@ p_patterns THEN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT f.done INTO s.done FROM tidegate.latest_fold_some(h, p_rows) f;
  END IF;
  RETURN s.done;
END $$;

-- Of a broker that reads them up to p_upto: true, or the reason why it has to wait.
CREATE FUNCTION tidegate.latest_reached(p_patterns text[], p_upto bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM tidegate.latest_state s, tidegate.head h WHERE s.patterns @> p_patterns AND s.patterns <@ p_patterns
                AND s.done >= s.upto AND s.done >= least(p_upto, h.seq)) THEN
    RETURN true;
  END IF;
  RAISE EXCEPTION 'topics of store.latest are yet to be looked for' USING ERRCODE = '55T01';
END $$;

CREATE OR REPLACE FUNCTION tidegate.latest_ready(p_patterns text[]) RETURNS boolean LANGUAGE sql STABLE AS $$ -- of version 5
  SELECT tidegate.latest_reached(p_patterns, 9223372036854775807)
$$;

---------------------------------------------------------------- the upkeep

-- What is kept from now on. No batch of events is under way meanwhile.
CREATE OR REPLACE FUNCTION tidegate.latest_configure(p_patterns text[], p_most bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  h bigint; there boolean; same boolean; m text := tidegate.topic_match(p_patterns);
BEGIN
  PERFORM pg_advisory_xact_lock(1952736100, 4); -- of tidegate.erase()
  LOCK TABLE tidegate.head IN SHARE ROW EXCLUSIVE MODE;
  SELECT seq INTO h FROM tidegate.head;
  SELECT s.patterns @> p_patterns AND s.patterns <@ p_patterns INTO same FROM tidegate.latest_state s FOR UPDATE; -- in whatever order
  SELECT count(*) > 0 INTO there FROM pg_trigger WHERE tgrelid = 'tidegate.head'::regclass AND tgname = 'latest_follow';
  IF p_patterns = '{}' AND there THEN
    DROP TRIGGER latest_follow ON tidegate.head;
  ELSIF p_patterns <> '{}' AND NOT there THEN
    CREATE TRIGGER latest_follow AFTER UPDATE ON tidegate.head FOR EACH ROW WHEN (NEW.seq > OLD.seq) EXECUTE FUNCTION tidegate.latest_follow();
  END IF;
  DELETE FROM tidegate.latest l WHERE l.topic !~ m;
  DELETE FROM tidegate.latest_gone WHERE NOT same;
  UPDATE tidegate.latest_state SET done = CASE WHEN same THEN done ELSE 0 END,
                                   upto = CASE WHEN same THEN upto WHEN p_patterns = '{}' THEN 0 ELSE h END,
                                   patterns = p_patterns, match = m, most = p_most, topics = (SELECT count(*) FROM tidegate.latest);
END $$;

-- A step of the upkeep: sees to it that these topics are kept, and folds at most p_rows events. `filling`: those that were there when the
-- topics were named are not done; readers wait. `ids`: by how many `done` has moved.
CREATE FUNCTION tidegate.latest_advance(p_patterns text[], p_most bigint, p_rows int, OUT topics bigint, OUT filling boolean, OUT more boolean,
                                        OUT ids bigint)
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
  s tidegate.latest_state; h bigint;
BEGIN
  SELECT * INTO s FROM tidegate.latest_state;
  IF NOT (s.patterns @> p_patterns AND s.patterns <@ p_patterns) OR s.most <> p_most THEN
    PERFORM tidegate.latest_configure(p_patterns, p_most);
    SELECT * INTO s FROM tidegate.latest_state;
  END IF;
  SELECT d.seq INTO h FROM tidegate.head d;
  ids := -s.done;
  IF s.patterns <> '{}' AND s.done < h THEN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT f.done, f.topics INTO s.done, s.topics FROM tidegate.latest_fold_some(h, p_rows) f;
  END IF;
  topics := s.topics;
  filling := s.done < s.upto;
  more := s.patterns <> '{}' AND s.done < h;
  ids := ids + s.done;
END $$;

CREATE OR REPLACE FUNCTION tidegate.latest_step(p_patterns text[], p_most bigint, p_rows int, OUT topics bigint, OUT more boolean) -- of version 5
LANGUAGE sql AS $$
  SELECT a.topics, a.filling FROM tidegate.latest_advance(p_patterns, p_most, p_rows) a
$$;

-- As in version 9, but for the lock.
CREATE OR REPLACE FUNCTION tidegate.latest_expire(p_rows int) RETURNS bigint LANGUAGE plpgsql
  SET lock_timeout = '200ms' SET jit = off SET enable_seqscan = off AS $$
DECLARE
  t timestamptz := clock_timestamp(); gone bigint := 0;
BEGIN
  IF EXISTS (SELECT 1 FROM tidegate.latest l WHERE l.expires <= t) THEN
    PERFORM 1 FROM tidegate.latest_state FOR UPDATE;
    WITH d AS (DELETE FROM tidegate.latest l WHERE l.topic = ANY (ARRAY(
                 SELECT x.topic FROM tidegate.latest x WHERE x.expires <= t ORDER BY x.expires LIMIT p_rows)) RETURNING 1)
    SELECT count(*) INTO gone FROM d;
    UPDATE tidegate.latest_state SET topics = topics - gone;
  END IF;
  RETURN gone;
END $$;

-- As in version 3, but that events stay which are yet to be folded.
CREATE OR REPLACE FUNCTION tidegate.retain_events(p_age_s bigint, p_events bigint, p_bytes bigint, p_rows int)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql SET lock_timeout = '100ms' SET jit = off AS $$
DECLARE
  h bigint; was bigint; cut bigint := 0; held bigint; bytes numeric; p record; b record; latest timestamptz; gone bigint := 0; n bigint;
  old timestamptz := clock_timestamp() - p_age_s * interval '1 second'; again boolean := false;
BEGIN
  LOCK TABLE tidegate.partition IN SHARE UPDATE EXCLUSIVE MODE; -- see ahead()
  SELECT CASE WHEN s.patterns = '{}' THEN d.seq ELSE least(d.seq, s.done) END INTO h FROM tidegate.head d, tidegate.latest_state s;
  SELECT trimmed INTO was FROM tidegate.retention;
  IF h < was THEN
    RETURN QUERY SELECT 0::bigint, false;
    RETURN;
  END IF;
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
      SELECT greatest(cut, max(t.seq)) INTO cut FROM (SELECT e.seq, e.at FROM tidegate.events e WHERE e.seq > was AND e.seq <= h ORDER BY e.seq LIMIT p_rows) t
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

-- As in version 6, but that it waits for no batch of events, and that no older event takes the place of one that was yet to be folded.
CREATE OR REPLACE FUNCTION tidegate.erase(p_ids bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  b bigint; gone bigint[]; topics text[]; keys text[]; kept bigint[]; kept_keys text[];
BEGIN
  PERFORM pg_advisory_xact_lock(1952736100, 4);
  SELECT greatest(coalesce(max(batch) + 1, 0), tidegate.floor_now()) INTO b FROM tidegate.erased;
  WITH d AS (DELETE FROM tidegate.events WHERE seq = ANY (p_ids) RETURNING seq, topic, key)
  SELECT array_agg(d.seq), array_agg(d.topic), array_agg(d.key) INTO gone, topics, keys FROM d;
  IF EXISTS (SELECT 1 FROM tidegate.latest_state s WHERE s.patterns <> '{}') THEN
    PERFORM 1 FROM tidegate.latest_state FOR UPDATE;
    WITH d AS (DELETE FROM tidegate.latest WHERE seq = ANY (p_ids) RETURNING seq, key)
    SELECT array_agg(seq), array_agg(key) INTO kept, kept_keys FROM d;
    UPDATE tidegate.latest_state s SET topics = s.topics - cardinality(kept) WHERE cardinality(kept) > 0;
    INSERT INTO tidegate.latest_gone AS g (topic, seq)
      SELECT e.topic, max(e.seq) FROM unnest(gone, topics) AS e(seq, topic), tidegate.latest_state s
       WHERE e.seq > s.done AND e.topic ~ s.match GROUP BY e.topic
      ON CONFLICT (topic) DO UPDATE SET seq = greatest(g.seq, EXCLUDED.seq);
  END IF;
  DELETE FROM tidegate.dedup WHERE key = ANY (keys || kept_keys) AND seq = ANY (p_ids);
  INSERT INTO tidegate.erased (batch, seq) SELECT b, i FROM unnest(p_ids) AS i;
  PERFORM pg_notify('tidegate', 'erased');
  RETURN (SELECT count(DISTINCT i) FROM unnest(gone || kept) AS i);
END $$;

---------------------------------------------------------------- from version 10

-- Short tries, as in version 3. What the trigger has kept up to now is in tidegate.latest; where older events are yet to be looked through,
-- all from there on are, once more.
DO $$
DECLARE
  h bigint;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM tidegate.latest_state s WHERE s.patterns <> '{}') THEN
    RETURN;
  END IF;
  FOR i IN 1..60 LOOP
    BEGIN
      SET LOCAL lock_timeout = '200ms';
      LOCK TABLE tidegate.head IN SHARE ROW EXCLUSIVE MODE;
      SELECT seq INTO h FROM tidegate.head;
      PERFORM 1 FROM tidegate.latest_state FOR UPDATE;
      DROP TRIGGER IF EXISTS latest_keep ON tidegate.events;
      CREATE TRIGGER latest_follow AFTER UPDATE ON tidegate.head FOR EACH ROW WHEN (NEW.seq > OLD.seq) EXECUTE FUNCTION tidegate.latest_follow();
      UPDATE tidegate.latest_state s SET done = CASE WHEN s.done >= s.upto THEN h ELSE s.done END,
                                         upto = CASE WHEN s.done >= s.upto THEN s.upto ELSE h END;
      SET LOCAL lock_timeout = '60s';
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF i = 60 THEN
        RAISE EXCEPTION 'tidegate.events was in use for a minute: end the transactions that pg_locks shows for it (pid NULL: see pg_prepared_xacts), then migrate again'
          USING ERRCODE = 'lock_not_available';
      END IF;
    END;
    PERFORM pg_sleep(0.8);
  END LOOP;
END $$;
DROP FUNCTION tidegate.latest_keep(), tidegate.latest_clear(text[]);

REVOKE ALL ON FUNCTION tidegate.latest_fold_some(bigint, bigint), tidegate.latest_follow(), tidegate.latest_fold(text[], bigint, int),
  tidegate.latest_reached(text[], bigint), tidegate.latest_advance(text[], bigint, int) FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (11, 2);
