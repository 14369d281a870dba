std = "lua54"
max_line_length = 120
exclude_files = { "build/" }

stds.tidegate_policy = {
  read_globals = {
    tg = { fields = {
      "ask_again", "deny", "drop", "end_streams", "equal", "geohash", "hmac", "jwt", "pattern_ok", "rate", "stored",
      "topic", "topic_ok", "segment", "unsegment",
      "fits_template", "fits_url_pattern", "url_pattern_ok",
      settings = { other_fields = true }  } },
    cache = { fields = { "fetch", "forget" } },
    db = { fields = { "query" } },
    http = { fields = { "get", "post" } },
    json = { fields = { "encode", "decode", "null", "array" } },
    log = { fields = { "info", "warn" } },
    "assert", "error", "ipairs", "next", "pairs", "pcall", "print", "select", "setmetatable", "sleep", "tonumber", "tostring",
    "type", "require", "math", "os", "string", "table", "utf8",
  },
}

files["scripts/policies/"] = { std = "tidegate_policy" }
files["scripts/init/tidegate.lua"] = { std = "none", read_globals = { "env", "secret" } }
files["scripts/init/policy.lua"] = { std = "tidegate_policy" }
files["scripts/init/policy_spec.lua"] = { std = "lua54+busted" }
files["scripts/policies/spec/"] = { std = "lua54+busted" }
files["spec/"] = { std = "+busted", globals = { "SPEC_SOURCE_DIR" } }
files["spec/bench/*policy.lua"] = { std = "tidegate_policy" }
files["conf/"] = { std = "none", read_globals = { "env", "secret" } }
files["scripts/meta/"] = { ignore = { "111", "112", "113", "121", "122", "212", "241", "631" } }
