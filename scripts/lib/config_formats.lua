--- What texts of a configuration must look like, by the name that config_schema.lua gives it: f(text) -> true, or nil
--- and why.

-- As browsers send it (RFC 6454, section 6.2): lower case, no default port, nothing after the port.
local function is_origin(text)
  if text == "*" then
    return true
  end
  local scheme, port = text:match("^(%l[%l%d+.-]*)://[^%s%u/?#@:%[%]]+(:?%d*)$")
  if not scheme then
    scheme, port = text:match("^(%l[%l%d+.-]*)://%[[%x:.]+%](:?%d*)$")
  end
  if not scheme or port == ":" then
    return nil
  end
  local below = text:match "^%l+://%*%.(.*)$"
  if text:find("*", 1, true) and (not below or below:find("*", 1, true)) then
    return nil, ('"%s" never matches: "*" may stand for the first names of a host only, as in "https://*.app.example"')
      :format(text)
  elseif below and not below:match "^[^.:]+%.[^.:]" and not below:match "^localhost" then
    return nil, ('"%s" would match too much: name what it is below, as in "https://*.app.example"'):format(text)
  elseif (scheme == "http" and port == ":80") or (scheme == "https" and port == ":443") then
    return nil, ('"%s" never matches, browsers leave the default port out: write it without %s'):format(text, port)
  end
  return true
end

local function is_host(text)
  if text:match "^[%w%-._]+$" or text:match "^%[[%x:.]+%]$" then
    return true
  elseif text:match ":%d+$" then
    return nil, ('"%s": leave the port out'):format(text)
  end
end

local LATEST_STARS = 4 -- in front of "**": each doubles a condition in SQL

local function is_topics(text)
  local stars, deep = 0, false
  for segment in (text .. "/"):gmatch "([^/]*)/" do
    if segment == "" then
      return nil, ('"%s": a segment is empty'):format(text)
    elseif deep then
      return nil, ('"%s": "**" may only be the last segment'):format(text)
    elseif segment:find("*", 1, true) and segment ~= "*" and segment ~= "**" then
      return nil, ('"%s": "*" must be a whole segment'):format(text)
    elseif segment:find "%c" then
      return nil, "a control character is in it"
    end
    stars = segment == "*" and stars + 1 or stars
    deep = segment == "**"
  end
  if deep and stars > LATEST_STARS then
    return nil, ('"%s": at most %d "*" may stand in front of "**"'):format(text, LATEST_STARS)
  end
  return true
end

return { origin = is_origin, host = is_host, topics = is_topics }
