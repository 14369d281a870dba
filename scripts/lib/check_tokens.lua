--- Tokens that `tidegate check` makes up, for policies that let nobody in without one: helper of check_samples.lua.
--- They are as tg.jwt wants them (issuer, audience, algorithm, type), signed with keys made for the purpose in place of
--- the configuration's, and say something about every claim that the policy seems to read.
---   wants: what a call of tg.jwt asked for: { keys, alg, iss, aud, typ }, as test_fakes.h records it
local native, tokens = require "tidegate.test.native", require "tidegate.test.tokens"
local eval = require "tidegate.eval"
local json = native.json

local M = {}

local VALID_S = 3600
local LONG_BYTES, LARGE_NUMBER = 200, 1 << 53 -- what is longer than a topic may be is no news

-- What the token is about itself: tg.jwt has an opinion about these.
local OF_JWT = { iss = true, aud = true, exp = true, nbf = true, iat = true, jti = true }

--- Where one call differs from others.
function M.key_of(wants)
  return table.concat({ wants.keys, wants.alg, wants.iss or "", wants.aud or "", wants.typ or "" }, "\0")
end

--- Keys in place of those of the configuration: { [set name] = t.key }. `keys`: { name =, secret = bool }, all sets;
--- `list`: what was asked for.
function M.keys(keys, list)
  local made = {}
  for _, set in ipairs(keys) do
    made[set.name] = tokens.key(set.secret and "HS256" or "ES256")
  end
  for _, wants in ipairs(list) do
    made[wants.keys] = tokens.key(wants.alg)
  end
  return made
end

--- The same, as native.open() wants them.
function M.sets(made)
  return tokens.sets(tokens.lists(made, 2))
end

-- What a claim must be, by what stands before and after it; nil: that does not show.
local function kind_of(before, after)
  if before:find "pairs%s*%($" or before:find "concat%s*%($" or after:find "^%[" then
    return "list"
  elseif before:find "#$" then
    return "text"
  elseif before:find "[<>]=?%s*$" or after:find "^%s*[<>]" or after:find "^%s*[-+*/]%s"
    or after:find "^%s+or%s+%d" then
    return "number"
  end
end

-- The claims that the files speak of, as dotted paths -> "text", "list" or "number", as far as their use shows.
local function spoken_of(files)
  local found = {}
  for _, path in ipairs(files) do
    local text = eval.text_of(path)
    local names = { claims = true, payload = true }
    for name in text:gmatch "([%a_][%w_]*)%s*,[%w_%s,]*=%s*tg%.jwt%f[%W]" do
      names[name] = true
    end
    for name in text:gmatch "([%a_][%w_]*)%s*=%s*tg%.jwt%f[%W]" do
      names[name] = true
    end
    for name in pairs(names) do
      local function add(claim, before, after)
        found[claim] = kind_of(before, after) or found[claim] or "text"
      end
      for from, claim, to in text:gmatch("()%f[%w_]" .. name .. "%.([%a_][%w_%.]*)()") do
        add(claim, text:sub(math.max(1, from - 8), from - 1), text:sub(to, to + 8))
      end
      for claim in text:gmatch("%f[%w_]" .. name .. "%[[\"']([^\"'.]+)[\"']%]") do
        add(claim, "", "")
      end
    end
  end
  for claim in pairs(OF_JWT) do
    found[claim] = nil
  end
  for claim in pairs(found) do -- of `realm` and `realm.roles` the latter
    local above = claim:match "^(.*)%."
    while above do
      found[above] = nil
      above = above:match "^(.*)%."
    end
  end
  found.sub = found.sub or "text"
  return found
end

-- The claims with these values: value(kind, claim), nil: without it.
local function claims(found, value)
  local out = {}
  for claim, kind in pairs(found) do
    local at, last = out, nil
    for part in claim:gmatch "[^.]+" do
      if last then
        at[last] = at[last] or {}
        at = at[last]
      end
      last = part
    end
    at[last] = value(kind, claim)
  end
  return out
end

local function plain(kind, claim)
  local text = "sample-claim-" .. claim:gsub("%W", "-")
  return kind == "list" and json.array { text } or kind == "number" and 1 or text
end

local function as_all(kind)
  return function(_, claim)
    return plain(claim == "sub" and "text" or kind, claim)
  end
end

--- What claims may be like: lists of { what =, value = function } for M.token(). The first ones are three guesses at
--- what the policy expects; one of them that works shows that a hook does.
M.guesses = {
  { what = "a token with plain claims", value = plain },
  { what = "a token with plain claims", value = as_all "list" },
  { what = "a token with plain claims", value = as_all "number" },
}

--- The others follow the guess that works. The last one apart: a hook may well refuse that.
function M.others(value)
  local function each(make)
    return function(kind, claim)
      local usual = value(kind, claim)
      if type(usual) == "table" then
        return json.array { make.text }
      end
      return type(usual) == "number" and make.number or make.text
    end
  end
  return {
    { what = "a token that has only sub", value = function(kind, claim)
      return claim == "sub" and value(kind, claim) or nil
    end },
    { what = "a token with long claims", value = each { text = ("x"):rep(LONG_BYTES), number = LARGE_NUMBER } },
  }, { what = "a token with wildcards as claims", value = each { text = "*", number = 1 } }
end

--- What the wildcards stand in for.
M.PLAIN = "sample%-claim%-[%w%-]+"

--- A function that makes the text of a token for what was asked for: value -> text.
function M.signer(wants, key, files)
  local found = spoken_of(files)
  return function(value)
    local all = claims(found, value)
    all.iss, all.aud, all.iat = wants.iss, wants.aud, os.time()
    return tokens.sign(key, all, { alg = wants.alg, header = { typ = wants.typ } }, os.time() + VALID_S, 2)
  end
end

return M
