-- Version 10: what brokers have said that are gone is taken back without harm to those that are there. Brokers of versions 2 to 9 that
-- run may go on while it is applied and after it, and be started on it: tidegate.presence_beat() keeps its meaning.

-- Under tidegate.presence_lock: members of brokers that gave no sign of life in time leave, some of them in each call. `refused`: for so
-- many of them the outbox has a CHECK or a trigger that lets nothing in; these leave unannounced, and are in tidegate.rejected.
CREATE FUNCTION tidegate.presence_sweep(p_broker bigint, p_rows int, OUT swept bigint, OUT more boolean, OUT refused bigint, OUT why text)
LANGUAGE plpgsql AS $$
DECLARE
  passing CONSTANT text[] := '{08,25,40,42,53,55,57,58,XX}'; -- classes of errors that no member is to blame for: as in pg_presence.c
  dead bigint[]; taken text[]; gone text[]; n bigint; t text;
BEGIN
  swept := 0; refused := 0;
  -- Not those that give a sign of life now: they have locked their row, and may wait for the lock that is held here.
  SELECT array_agg(x.id) INTO dead
    FROM (SELECT b.id FROM tidegate.broker b WHERE b.until <= clock_timestamp() AND b.id <> p_broker FOR UPDATE SKIP LOCKED) x;
  -- one that gives a sign of life from now on finds that it has come too late
  UPDATE tidegate.broker b SET until = '-infinity' WHERE b.id = ANY (dead);
  WITH d AS (DELETE FROM tidegate.presence p WHERE p.ctid = ANY (ARRAY(
               SELECT q.ctid FROM tidegate.presence q WHERE q.broker = ANY (dead) ORDER BY q.broker LIMIT p_rows)) RETURNING p.topic)
  SELECT array_agg(DISTINCT d.topic), count(*) INTO taken, n FROM d;
  more := n >= p_rows;
  SELECT array_agg(x.topic) INTO gone FROM unnest(taken) AS x(topic)
   WHERE NOT EXISTS (SELECT 1 FROM tidegate.presence p WHERE p.topic = x.topic);
  DELETE FROM tidegate.broker b WHERE b.id = ANY (dead) AND NOT EXISTS (SELECT 1 FROM tidegate.presence p WHERE p.broker = b.id);
  BEGIN
    INSERT INTO tidegate.outbox (topic, data) SELECT x.topic, '' FROM unnest(gone) AS x(topic);
    GET DIAGNOSTICS swept = ROW_COUNT;
    RETURN;
  EXCEPTION WHEN OTHERS THEN
    IF left(SQLSTATE, 2) = ANY (passing) THEN
      RAISE;
    END IF;
  END;
  FOREACH t IN ARRAY gone LOOP
    BEGIN
      INSERT INTO tidegate.outbox (topic, data) VALUES (t, '');
      swept := swept + 1;
    EXCEPTION WHEN OTHERS THEN
      IF left(SQLSTATE, 2) = ANY (passing) THEN
        RAISE;
      END IF;
      why := SQLERRM;
      refused := refused + 1;
      INSERT INTO tidegate.rejected (id, topic, data, created, reason)
        VALUES (nextval(pg_get_serial_sequence('tidegate.outbox', 'id')), t, '', clock_timestamp(), why);
    END;
  END LOOP;
END $$;

-- As tidegate.presence_beat() of version 7, but that a sweep that fails fails alone: `why` says so, with none `refused`.
CREATE FUNCTION tidegate.presence_renew(p_broker bigint, p_ms bigint, p_rows int, OUT lost boolean, OUT swept bigint, OUT more boolean,
                                        OUT refused bigint, OUT why text)
LANGUAGE plpgsql AS $$
BEGIN
  swept := 0; more := false; refused := 0;
  UPDATE tidegate.broker b SET until = clock_timestamp() + p_ms * interval '1 millisecond' WHERE b.id = p_broker AND b.until > clock_timestamp();
  lost := NOT FOUND;
  IF lost THEN
    PERFORM 1 FROM tidegate.presence_lock FOR UPDATE;
    INSERT INTO tidegate.broker VALUES (p_broker, clock_timestamp() + p_ms * interval '1 millisecond')
      ON CONFLICT (id) DO UPDATE SET until = excluded.until;
  END IF;
  IF NOT EXISTS (SELECT 1 FROM tidegate.broker b WHERE b.until <= clock_timestamp() AND b.id <> p_broker) THEN
    RETURN;
  END IF;
  BEGIN
    PERFORM 1 FROM tidegate.presence_lock FOR UPDATE;
    SELECT s.swept, s.more, s.refused, s.why INTO swept, more, refused, why FROM tidegate.presence_sweep(p_broker, p_rows) s;
  EXCEPTION WHEN OTHERS THEN
    swept := 0; more := false; refused := 0; why := SQLERRM;
  END;
END $$;

CREATE OR REPLACE FUNCTION tidegate.presence_beat(p_broker bigint, p_ms bigint, p_rows int, OUT lost boolean, OUT swept bigint,
                                                  OUT more boolean) -- of version 7
LANGUAGE sql AS $$
  SELECT r.lost, r.swept, r.more FROM tidegate.presence_renew(p_broker, p_ms, p_rows) r
$$;

REVOKE ALL ON FUNCTION tidegate.presence_sweep(bigint, int), tidegate.presence_renew(bigint, bigint, int) FROM PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (10, 2);
