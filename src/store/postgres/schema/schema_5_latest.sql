-- Version 5: the newest event of each topic that store.latest names. Brokers of versions 2 to 4 that run may go on while it
-- is applied and after it, and be started on it: what they insert into tidegate.events passes the trigger like all else.

-- All that is in the event, for retention drops whole partitions of the others.
CREATE TABLE tidegate.latest (
  seq bigint NOT NULL,
  topic text COLLATE "C" PRIMARY KEY,
  type text,
  data text NOT NULL,
  attrs jsonb,
  key text,
  created timestamptz NOT NULL,
  at timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON tidegate.latest (seq);

CREATE TABLE tidegate.latest_state (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  patterns text[] NOT NULL, -- store.latest
  match text NOT NULL, -- the same as a regular expression
  most bigint NOT NULL, -- store.latest_topics
  topics bigint NOT NULL, -- rows of tidegate.latest
  done bigint NOT NULL, -- events in (done, upto] are yet to be looked through
  upto bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO tidegate.latest_state VALUES (true, '{}', '^$', 0, 0, 0, 0);

-- Patterns of topics as one regular expression: '*' is a segment, '**' one or more.
CREATE FUNCTION tidegate.topic_match(p_patterns text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_patterns = '{}' THEN '^$' ELSE '^(?:' || string_agg(
           replace(regexp_replace(regexp_replace(p, '([][(){}.?+^$|\\])', '\\\1', 'g'), '\*\*$', '.+'), '*', '[^/]+'), '|') || ')$' END
    FROM unnest(p_patterns) AS p
$$;

-- After each statement that inserts events, which is done under the lock of tidegate.head: one at a time, in the order of ids.
CREATE FUNCTION tidegate.latest_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  s tidegate.latest_state; fresh bigint; gone bigint;
BEGIN
  SELECT * INTO s FROM tidegate.latest_state;
  WITH n AS MATERIALIZED (SELECT DISTINCT ON (r.topic) r.* FROM added r WHERE r.topic ~ s.match ORDER BY r.topic, r.seq DESC),
       d AS (DELETE FROM tidegate.latest l USING n WHERE n.data = '' AND l.topic = n.topic RETURNING 1),
       k AS MATERIALIZED (SELECT n.*, l.topic IS NULL AS fresh FROM n LEFT JOIN tidegate.latest l ON l.topic = n.topic WHERE n.data <> ''),
       u AS (UPDATE tidegate.latest l SET seq = k.seq, type = k.type, data = k.data, attrs = k.attrs, key = k.key, created = k.created, at = k.at
               FROM k WHERE NOT k.fresh AND l.topic = k.topic),
       i AS (INSERT INTO tidegate.latest SELECT k.seq, k.topic, k.type, k.data, k.attrs, k.key, k.created, k.at FROM k WHERE k.fresh)
  SELECT count(*) FILTER (WHERE k.fresh), (SELECT count(*) FROM d) INTO fresh, gone FROM k;
  IF fresh > 0 AND s.topics + fresh - gone > s.most THEN
    RAISE EXCEPTION 'topic: would be one more than store.latest_topics' USING ERRCODE = '23T01'; -- of the class of violated constraints
  END IF;
  IF fresh <> gone THEN
    UPDATE tidegate.latest_state SET topics = topics + fresh - gone;
  END IF;
  RETURN NULL;
END $$;

-- What is kept from now on. Who hands out ids waits meanwhile: an event is seen by the trigger, or by the steps that follow. Nothing is
-- erased meanwhile: tidegate.erase() locks tables of events, which the trigger needs, before it locks the head.
CREATE FUNCTION tidegate.latest_configure(p_patterns text[], p_most bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  h bigint; there boolean; same boolean; m text := tidegate.topic_match(p_patterns);
BEGIN
  PERFORM pg_advisory_xact_lock(1952736100, 4); -- of tidegate.erase()
  SELECT seq INTO h FROM tidegate.head FOR UPDATE;
  SELECT count(*) > 0 INTO there FROM pg_trigger WHERE tgrelid = 'tidegate.events'::regclass AND tgname = 'latest_keep';
  IF p_patterns = '{}' AND there THEN
    DROP TRIGGER latest_keep ON tidegate.events;
  ELSIF p_patterns <> '{}' AND NOT there THEN
    CREATE TRIGGER latest_keep AFTER INSERT ON tidegate.events REFERENCING NEW TABLE AS added
      FOR EACH STATEMENT EXECUTE FUNCTION tidegate.latest_keep();
  END IF;
  DELETE FROM tidegate.latest l WHERE l.topic !~ m;
  SELECT patterns @> p_patterns AND patterns <@ p_patterns INTO same FROM tidegate.latest_state; -- in whatever order
  UPDATE tidegate.latest_state SET done = CASE WHEN same THEN done ELSE 0 END,
                                   upto = CASE WHEN same THEN upto WHEN p_patterns = '{}' THEN 0 ELSE h END,
                                   patterns = p_patterns, match = m, most = p_most, topics = (SELECT count(*) FROM tidegate.latest);
END $$;

-- A step of the upkeep: sees to it that these topics are kept, and looks through some older events for them. An event that is
-- not the newest of its topic is none of those; which one is holds while the head is locked.
CREATE FUNCTION tidegate.latest_step(p_patterns text[], p_most bigint, p_rows int, OUT topics bigint, OUT more boolean)
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
         u AS (UPDATE tidegate.latest l SET seq = k.seq, type = k.type, data = k.data, attrs = k.attrs, key = k.key, created = k.created, at = k.at
                 FROM k WHERE NOT k.fresh AND l.topic = k.topic),
         i AS (INSERT INTO tidegate.latest SELECT k.seq, k.topic, k.type, k.data, k.attrs, k.key, k.created, k.at FROM k WHERE k.fresh)
    SELECT count(*) FILTER (WHERE k.fresh) INTO fresh FROM k;
    UPDATE tidegate.latest_state SET done = top, topics = topics + fresh RETURNING * INTO s;
  END IF;
  topics := s.topics;
  more := s.done < s.upto;
END $$;

-- Of a broker that reads them: true, or the reason why it has to wait.
CREATE FUNCTION tidegate.latest_ready(p_patterns text[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM tidegate.latest_state s WHERE s.patterns @> p_patterns AND s.patterns <@ p_patterns AND s.done >= s.upto) THEN
    RETURN true;
  END IF;
  RAISE EXCEPTION 'topics of store.latest are yet to be looked for' USING ERRCODE = '55T01';
END $$;

REVOKE ALL ON FUNCTION tidegate.topic_match(text[]), tidegate.latest_keep(), tidegate.latest_configure(text[], bigint),
  tidegate.latest_step(text[], bigint, int), tidegate.latest_ready(text[]) FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (5, 2);
