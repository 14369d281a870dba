-- Version 7: who is there. Brokers of versions 2 to 6 that run may go on while it is applied and after it, and be started on it:
-- they neither say nor take back who is there.

-- Brokers that have members, and until when that holds without another sign of life. One that ends sets the time, too.
CREATE TABLE tidegate.broker (
  id bigint PRIMARY KEY,
  until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Which of them have a member, which is a topic, and what was announced of it: the same for all brokers of a member.
CREATE TABLE tidegate.presence (
  topic text COLLATE "C" NOT NULL,
  broker bigint NOT NULL,
  data text NOT NULL,
  PRIMARY KEY (topic, broker)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON tidegate.presence (broker);

-- One row: who changes either table locks it first, so that one at a time decides what is news, and the outbox has it in order.
CREATE TABLE tidegate.presence_lock (one boolean PRIMARY KEY DEFAULT true CHECK (one)) WITH (fillfactor = 10);
INSERT INTO tidegate.presence_lock VALUES (true);

-- Members of a broker come, or go where data is empty; each topic is named once. What is news goes to the outbox. NULLs: the lease
-- of the broker has run out, and nothing was done.
CREATE FUNCTION tidegate.presence_change(p_broker bigint, p_topics text[], p_datas text[], OUT joined bigint, OUT gone bigint)
LANGUAGE plpgsql AS $$
DECLARE
  taken text[];
BEGIN
  PERFORM 1 FROM tidegate.presence_lock FOR UPDATE;
  PERFORM 1 FROM tidegate.broker b WHERE b.id = p_broker AND b.until > clock_timestamp();
  IF NOT FOUND THEN
    RETURN;
  END IF;
  WITH d AS (DELETE FROM tidegate.presence p USING unnest(p_topics, p_datas) AS c(topic, data)
              WHERE c.data = '' AND p.topic = c.topic AND p.broker = p_broker RETURNING p.topic)
  SELECT array_agg(d.topic) INTO taken FROM d;
  INSERT INTO tidegate.outbox (topic, data)
    SELECT t.topic, '' FROM unnest(taken) AS t(topic) WHERE NOT EXISTS (SELECT 1 FROM tidegate.presence p WHERE p.topic = t.topic);
  GET DIAGNOSTICS gone = ROW_COUNT;
  INSERT INTO tidegate.outbox (topic, data)
    SELECT c.topic, c.data FROM unnest(p_topics, p_datas) WITH ORDINALITY AS c(topic, data, ord)
     WHERE c.data <> '' AND NOT EXISTS (SELECT 1 FROM tidegate.presence p WHERE p.topic = c.topic AND p.data = c.data) ORDER BY c.ord;
  GET DIAGNOSTICS joined = ROW_COUNT;
  UPDATE tidegate.presence p SET data = c.data FROM unnest(p_topics, p_datas) AS c(topic, data)
   WHERE c.data <> '' AND p.topic = c.topic AND p.data <> c.data;
  INSERT INTO tidegate.presence SELECT c.topic, p_broker, c.data FROM unnest(p_topics, p_datas) AS c(topic, data) WHERE c.data <> ''
    ON CONFLICT DO NOTHING;
END $$;

-- A sign of life: the broker counts as there for p_ms more. Brokers that gave none in time lose their members, some of them
-- in each call. `lost`: nothing is known of this broker (any more), it says anew what members it has.
CREATE FUNCTION tidegate.presence_beat(p_broker bigint, p_ms bigint, p_rows int, OUT lost boolean, OUT swept bigint, OUT more boolean)
LANGUAGE plpgsql AS $$
DECLARE
  dead bigint[]; taken text[];
BEGIN
  swept := 0; more := false;
  UPDATE tidegate.broker b SET until = clock_timestamp() + p_ms * interval '1 millisecond' WHERE b.id = p_broker AND b.until > clock_timestamp();
  lost := NOT FOUND;
  IF NOT lost AND NOT EXISTS (SELECT 1 FROM tidegate.broker b WHERE b.until <= clock_timestamp() AND b.id <> p_broker) THEN
    RETURN;
  END IF;
  PERFORM 1 FROM tidegate.presence_lock FOR UPDATE;
  -- one that gives a sign of life now finds that it has come too late
  WITH u AS (UPDATE tidegate.broker b SET until = '-infinity' WHERE b.until <= clock_timestamp() AND b.id <> p_broker RETURNING b.id)
  SELECT array_agg(u.id) INTO dead FROM u;
  WITH d AS (DELETE FROM tidegate.presence p WHERE p.ctid = ANY (ARRAY(
               SELECT q.ctid FROM tidegate.presence q WHERE q.broker = ANY (dead) ORDER BY q.broker LIMIT p_rows)) RETURNING p.topic)
  SELECT array_agg(d.topic) INTO taken FROM d;
  INSERT INTO tidegate.outbox (topic, data)
    SELECT DISTINCT t.topic, '' FROM unnest(taken) AS t(topic) WHERE NOT EXISTS (SELECT 1 FROM tidegate.presence p WHERE p.topic = t.topic);
  GET DIAGNOSTICS swept = ROW_COUNT;
  more := coalesce(cardinality(taken) >= p_rows, false);
  DELETE FROM tidegate.broker b WHERE b.id = ANY (dead) AND NOT EXISTS (SELECT 1 FROM tidegate.presence p WHERE p.broker = b.id);
  IF lost THEN
    INSERT INTO tidegate.broker VALUES (p_broker, clock_timestamp() + p_ms * interval '1 millisecond')
      ON CONFLICT (id) DO UPDATE SET until = excluded.until;
  END IF;
END $$;

-- A broker ends: its members leave when that time has passed, unless they are elsewhere by then.
CREATE FUNCTION tidegate.presence_end(p_broker bigint, p_ms bigint) RETURNS void LANGUAGE sql AS $$
  UPDATE tidegate.broker SET until = least(until, clock_timestamp() + p_ms * interval '1 millisecond') WHERE id = p_broker
$$;

REVOKE ALL ON FUNCTION tidegate.presence_change(bigint, text[], text[]), tidegate.presence_beat(bigint, bigint, int),
  tidegate.presence_end(bigint, bigint) FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (7, 2);
