-- Reads what is new in a table, again and again, on a psql of its own: `id > last`, as everybody writes it first.
--
--   local t = oracle_tail.new { db = db, sql = "SELECT id, data FROM t WHERE id > %d ORDER BY id", each = fn }
--   t:step()       often; each(id, data) is called for every row
--   t:at_end()     asked again and again: true when there was nothing new since it was asked first
--   t:close()      it connects anew at the next step
local eventually = require "support.eventually"

local M = {}
local tail = {}
tail.__index = tail

local EVERY_S = 0.05

function M.new(options)
  return setmetatable({ db = options.db, sql = options.sql, each = options.each, last = 0, next_at = 0,
    empty = 0 }, tail)
end

function tail:step()
  if self.session and not self.session:running() then
    self:close()
  end
  local now = eventually.now()
  if not self.asked then
    if now < self.next_at then
      return
    end
    self.session = self.session or self.db:session()
    self.session:send(self.sql:format(self.last) .. ";")
    self.asked, self.next_at = true, now + EVERY_S
    return
  end
  local answer = self.session:answer()
  if answer then
    self.asked = false
    local rows = 0
    for id, data in answer:gmatch "(%d+)|([^\n]*)\n" do
      self.each(id, data)
      self.last, rows = math.tointeger(id), rows + 1
    end
    self.empty = rows == 0 and self.empty + 1 or 0
  end
end

function tail:at_end()
  if not self.waiting then
    self.waiting, self.empty = true, 0
  end
  local is = self.empty >= 2 -- the first one may have been on its way
  self.waiting = not is
  return is
end

function tail:close()
  if self.session then
    self.session:close()
    self.session, self.asked = nil, false
  end
end

return M
