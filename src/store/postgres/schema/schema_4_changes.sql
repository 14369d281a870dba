-- Version 4: tables that speak. An application's table gets triggers that write each change of a row into the outbox, in the
-- transaction that makes the change. There is no table of such tables: the triggers are what is in force.
--
-- All of it runs as who changes the table (SECURITY INVOKER): the role needs what an INSERT into the outbox needs, no more.

-- One segment of a topic from a value: '/' and '*' mean something there, and '%' says so.
CREATE FUNCTION tidegate.segment(p_value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT replace(replace(replace(p_value, '%', '%25'), '/', '%2F'), '*', '%2A')
$$;

-- 'orders/{tenant}/{id}' with the values of a row. A value that is null leaves an empty segment, and the broker rejects the
-- event and says so: the application's transaction does not fail for it. This and the next are not SQL, which would cost ten
-- times as much a row.
CREATE FUNCTION tidegate.fill(p_topic text, p_row jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  rest text := p_topic; filled text := ''; n int; m int;
BEGIN
  LOOP
    n := strpos(rest, '{');
    EXIT WHEN n = 0;
    m := strpos(rest, '}');
    filled := filled || left(rest, n - 1) || tidegate.segment(coalesce(p_row ->> substr(rest, n + 1, m - n - 1), ''));
    rest := substr(rest, m + 1);
  END LOOP;
  RETURN filled || rest;
END $$;

-- These columns of a row; NULL: all.
CREATE FUNCTION tidegate.pick(p_row jsonb, p_columns text[]) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  picked jsonb := '{}'; c text;
BEGIN
  IF p_columns IS NULL THEN
    RETURN p_row;
  END IF;
  FOREACH c IN ARRAY p_columns LOOP
    picked := picked || jsonb_build_object(c, p_row -> c);
  END LOOP;
  RETURN picked;
END $$;

-- Those whose value is not what it is in the other row.
CREATE FUNCTION tidegate.differing(p_row jsonb, p_other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(p_row) AS e WHERE e.value IS DISTINCT FROM p_other -> e.key
$$;

-- Attributes of an event: none where no columns are named, and none of a column that is null.
CREATE FUNCTION tidegate.pick_attrs(p_row jsonb, p_columns text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_columns IS NOT NULL THEN jsonb_strip_nulls(tidegate.pick(p_row, p_columns)) END
$$;

-- Once a statement: 10,000 rows are one INSERT. Arguments: topic, columns, attributes, columns of the primary key; lists as
-- array literals, '' where there is none. An UPDATE pairs rows by their primary key: a row whose key or topic is another one now is a
-- deletion there and an insertion here. Rows of which no column of the event has changed are no event. Without JIT, which a
-- table of many rows would make PostgreSQL use for every single row afterwards (50 ms).
CREATE FUNCTION tidegate.on_change() RETURNS trigger LANGUAGE plpgsql SET jit = off AS $$
DECLARE
  t text := TG_ARGV[0]; c text[] := nullif(TG_ARGV[1], ''); a text[] := nullif(TG_ARGV[2], ''); k text[] := nullif(TG_ARGV[3], '');
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO tidegate.outbox (topic, type, data, attrs)
      SELECT tidegate.fill(t, n.r), 'insert', jsonb_build_object('new', tidegate.pick(n.r, c))::text, tidegate.pick_attrs(n.r, a)
        FROM (SELECT to_jsonb(x) AS r FROM new_rows x) n;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO tidegate.outbox (topic, type, data, attrs)
      SELECT tidegate.fill(t, o.r), 'delete', '', tidegate.pick_attrs(o.r, a) FROM (SELECT to_jsonb(x) AS r FROM old_rows x) o;
  ELSE
    WITH o AS MATERIALIZED (
           SELECT tidegate.pick(r, k) AS id, tidegate.fill(t, r) AS topic, tidegate.pick(r, c) AS c, tidegate.pick_attrs(r, a) AS a
             FROM (SELECT to_jsonb(x) AS r FROM old_rows x) y),
         n AS MATERIALIZED (
           SELECT tidegate.pick(r, k) AS id, tidegate.fill(t, r) AS topic, tidegate.pick(r, c) AS c, tidegate.pick_attrs(r, a) AS a
             FROM (SELECT to_jsonb(x) AS r FROM new_rows x) y)
    INSERT INTO tidegate.outbox (topic, type, data, attrs)
      SELECT e.topic, e.type, e.data, e.a
        FROM (SELECT 1 AS place, o.topic, 'delete' AS type, '' AS data, o.a
                FROM o LEFT JOIN n ON o.id = n.id WHERE o.topic IS DISTINCT FROM n.topic
              UNION ALL
              SELECT 2, n.topic, CASE WHEN o.id IS NULL THEN 'insert' ELSE 'update' END,
                     CASE WHEN o.id IS NULL THEN jsonb_build_object('new', n.c)
                          ELSE jsonb_build_object('new', n.c, 'old', tidegate.differing(o.c, n.c)) END::text, n.a
                FROM n LEFT JOIN o ON o.id = n.id AND o.topic = n.topic
               WHERE o.id IS NULL OR o.c IS DISTINCT FROM n.c OR o.a IS DISTINCT FROM n.a) e
       ORDER BY e.place; -- first what has gone: another row may have come to the same topic
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION tidegate.stop_changes(p_table regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = p_table AND t.tgfoid = 'tidegate.on_change()'::regprocedure LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', name, p_table);
  END LOOP;
END $$;

-- From now on the changes of that table are events. Again with other arguments: instead of before. Called by the table's owner.
CREATE FUNCTION tidegate.publish_changes("table" regclass, topic text, columns text[] DEFAULT NULL,
                                         on_events text[] DEFAULT '{insert,update,delete}', attrs text[] DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  kind "char"; key_columns text[]; wrong text; sample text; e text;
BEGIN
  SELECT c.relkind INTO kind FROM pg_class c WHERE c.oid = "table";
  IF kind NOT IN ('r', 'p') THEN
    RAISE EXCEPTION '% is no table: only tables have changes', "table" USING ERRCODE = 'wrong_object_type';
  END IF;
  IF EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = "table" AND c.relnamespace = 'tidegate'::regnamespace) THEN
    RAISE EXCEPTION '% is the broker''s own: each event of it would make another one', "table" USING ERRCODE = 'wrong_object_type';
  END IF;
  IF topic IS NULL OR regexp_replace(topic, '\{[^{}]+\}', '', 'g') ~ '[{}]' THEN
    RAISE EXCEPTION 'topic: expected text with columns in braces, as ''orders/{tenant}/{id}'', got %', coalesce(quote_literal(topic), 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  sample := regexp_replace(topic, '\{[^{}]+\}', 'x', 'g');
  wrong := tidegate.fault(sample, NULL, '', NULL, NULL, now(), 1);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '% (in %)', wrong, quote_literal(topic) USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT format('%s: %s has no column %s', u.what, "table", quote_ident(u.name)) INTO wrong
    FROM (SELECT 'topic' AS what, m.v[1] AS name FROM regexp_matches(topic, '\{([^{}]+)\}', 'g') AS m(v)
          UNION ALL SELECT 'columns', unnest(columns) UNION ALL SELECT 'attrs', unnest(attrs)) u
   WHERE NOT EXISTS (SELECT 1 FROM pg_attribute c
                      WHERE c.attrelid = "table" AND c.attname = u.name AND c.attnum > 0 AND NOT c.attisdropped)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '%', wrong USING ERRCODE = 'undefined_column';
  END IF;
  IF on_events IS NULL OR cardinality(on_events) = 0 OR NOT on_events <@ '{insert,update,delete}'::text[] THEN
    RAISE EXCEPTION 'on_events: expected some of insert, update, delete, got %', coalesce(on_events::text, 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT array_agg(c.attname::text ORDER BY c.attnum) INTO key_columns
    FROM pg_index i JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = ANY (i.indkey)
   WHERE i.indrelid = "table" AND i.indisprimary;
  IF key_columns IS NULL AND 'update' = ANY (on_events) THEN
    RAISE EXCEPTION '% has no primary key, by which an UPDATE knows a row again', "table" USING
      ERRCODE = 'invalid_table_definition', HINT = 'Add one, or leave out update: on_events => ''{insert,delete}''.';
  END IF;
  PERFORM tidegate.stop_changes("table");
  FOREACH e IN ARRAY on_events LOOP
    CONTINUE WHEN EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = "table" AND t.tgname = 'tidegate_changes_' || e);
    EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION tidegate.on_change(%L, %L, %L, %L)',
                   'tidegate_changes_' || e, e, "table",
                   CASE e WHEN 'insert' THEN 'NEW TABLE AS new_rows' WHEN 'delete' THEN 'OLD TABLE AS old_rows'
                          ELSE 'OLD TABLE AS old_rows NEW TABLE AS new_rows' END,
                   topic, coalesce(columns::text, ''), coalesce(attrs::text, ''), coalesce(key_columns::text, ''));
  END LOOP;
END $$;

-- The arguments of a trigger, as pg_trigger has them: each ends with a zero byte.
CREATE FUNCTION tidegate.trigger_args(p_args bytea) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  rest bytea := p_args; n int; list text[] := '{}';
BEGIN
  LOOP
    n := position('\x00'::bytea IN rest);
    EXIT WHEN n = 0;
    list := list || convert_from(substring(rest FROM 1 FOR n - 1), 'UTF8');
    rest := substring(rest FROM n + 1);
  END LOOP;
  RETURN list;
END $$;

CREATE VIEW tidegate.changes AS -- which tables speak, and how
  SELECT t.tgrelid::regclass AS "table", a.v[1] AS topic, nullif(a.v[2], '')::text[] AS columns, nullif(a.v[3], '')::text[] AS attrs,
         array_agg(substr(t.tgname, 18) ORDER BY t.tgname) AS on_events, bool_and(t.tgenabled <> 'D') AS enabled
    FROM pg_trigger t CROSS JOIN LATERAL tidegate.trigger_args(t.tgargs) AS a(v)
   WHERE t.tgfoid = 'tidegate.on_change()'::regprocedure AND t.tgname LIKE 'tidegate\_changes\_%' AND t.tgparentid = 0
   GROUP BY 1, 2, 3, 4;

-- All of these do nothing that the caller might not do by itself. Who may not use the schema does not reach them.
GRANT EXECUTE ON FUNCTION tidegate.publish_changes(regclass, text, text[], text[], text[]), tidegate.stop_changes(regclass),
  tidegate.on_change(), tidegate.fill(text, jsonb), tidegate.segment(text), tidegate.pick(jsonb, text[]),
  tidegate.pick_attrs(jsonb, text[]), tidegate.differing(jsonb, jsonb), tidegate.trigger_args(bytea),
  tidegate.fault(text, text, text, jsonb, text, timestamptz, bigint), tidegate.attrs_fault(jsonb) TO PUBLIC;
GRANT SELECT ON tidegate.changes TO PUBLIC;
INSERT INTO tidegate.version (version, compatible_from) VALUES (4, 2);
