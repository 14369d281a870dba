-- One HTTP request on a connection of its own, without waiting: fetch(address, port, method, path, body, seconds, done)
-- `done` is called once: with status and body, or with nil when there was no whole answer in time.
local uv = require "luv"

return function(address, port, method, path, body, seconds, done)
  local tcp, timer, chunks, over = uv.new_tcp(), uv.new_timer(), {}, false
  local function finish(complete)
    if over then
      return
    end
    over = true
    timer:close()
    tcp:close()
    local text = table.concat(chunks)
    local status = complete and tonumber(text:match "^HTTP/1%.[01] (%d%d%d)")
    if done then
      done(status, status and text:match "\r\n\r\n(.*)$")
    end
  end
  timer:start(math.floor(seconds * 1000), 0, function() finish(false) end)
  tcp:connect(address, port, function(err)
    if err then
      return finish(false)
    end
    tcp:read_start(function(_, data)
      if data then
        chunks[#chunks + 1] = data
      else
        finish(true)
      end
    end)
    tcp:write(("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"):format(method, path,
      address, #(body or ""), body or ""))
  end)
end
