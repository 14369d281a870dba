-- broker/query_sql: what is known of a query before a database has seen it.
local query = require "native.query"

describe("the text of a query", function()
  it("has as many parameters as its highest $n", function()
    for sql, n in pairs {
      ["select 1"] = 0,
      ["select $1"] = 1,
      ["select $1, $2, $1"] = 2,
      ["SELECT $1 FROM t WHERE a=$2;"] = 2,
      ["  ( select $1 ) -- $2"] = 1,
      ["/* $1 /* nested $2 */ $3 */ with x as (select 1) select $1 from x"] = 1,
      ["values ($1, $2)"] = 2,
      ["table t"] = 0,
      ["select '$1', \"$2\", 'it''s $3', $1"] = 1,
      ["select e'\\'$2', E'\\\\', $1"] = 1,
      ["select '\\', $1, '$2'"] = 1,
      ["select $$ $1 ' $$, $tag$ $2 $$ $tag$, $1"] = 1,
      ["select a$1, $1"] = 1,
      ["select name$ from t where x = $1"] = 1,
      ["select $1::text, \xc3\xa4$2, $2"] = 2,
      ["select 1; -- that is all"] = 0,
      ["select $1\n--c\n,$2"] = 2,
      ["select $1$2"] = 2,
      ["select " .. ("$1+"):rep(1000) .. "$32" .. (function()
        local all = {}
        for i = 1, 32 do
          all[i] = "+$" .. i
        end
        return table.concat(all)
      end)()] = 32,
    } do
      assert.equal(n, query.parameters(sql), sql)
    end
  end)

  it("is one look-up, complete and with parameters that make sense", function()
    for sql, why in pairs {
      [""] = "no look%-up",
      ["-- nothing"] = "no look%-up",
      ["delete from t"] = "no look%-up",
      ["insert into t values ($1)"] = "no look%-up",
      ["set default_transaction_read_only = off"] = "no look%-up",
      ["begin"] = "no look%-up",
      ["pragma query_only = off"] = "no look%-up",
      ["attach 'x' as y"] = "no look%-up",
      ["explain select 1"] = "no look%-up",
      ["copy t to stdout"] = "no look%-up",
      ["selects 1"] = "no look%-up",
      ["select 1; select 2"] = "more than one",
      ["select 1;;"] = "more than one",
      ["select '"] = "not closed",
      ["select \""] = "not closed",
      ["select 'a''"] = "not closed",
      ["select e'\\'"] = "not closed",
      ["select /*"] = "not closed",
      ["select /* /* */"] = "not closed",
      ["select $x$ $y$"] = "not closed",
      ["select $2"] = "skips",
      ["select $1, $3"] = "skips",
      ["select $0"] = "%$1 to %$32",
      ["select $33"] = "%$1 to %$32",
      ["select $99999999999999999999"] = "%$1 to %$32",
      ["select $"] = "stands alone",
      ["select $a"] = "stands alone",
      ["select \0 1"] = "NUL",
      ["select " .. ("x"):rep(70000)] = "longer",
    } do
      local n, text = query.parameters(sql)
      assert.is_nil(n, sql)
      assert.matches(why, text, nil, sql)
    end
  end)
end)
