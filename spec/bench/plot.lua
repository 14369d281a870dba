-- A chart of lines as SVG, both axes logarithmic: a cost that does not depend on x is level, one that grows with
-- x has the slope of the grey line.
--
--   plot { title =, x = "connections", y = "CPU us", series = { { name =, points = { { x, y }, ... } } } }
local WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 70, 230, 40, 50
local COLOURS = { "#0969da", "#cf222e", "#1a7f37", "#8250df", "#9a6700" }

local function log10(value)
  return math.log(value, 10)
end

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function short(exponent)
  local value = 10 ^ exponent
  return value >= 1e6 and ("%gM"):format(value / 1e6) or value >= 1e3 and ("%gk"):format(value / 1e3)
    or ("%g"):format(value)
end

local function value(y)
  return y >= 100 and ("%.0f"):format(y) or y >= 10 and ("%.1f"):format(y) or ("%.2f"):format(y)
end

-- Whole decades around all values of one axis.
local function decades(series, axis)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, p in ipairs(s.points) do
      low, high = math.min(low, log10(p[axis])), math.max(high, log10(p[axis]))
    end
  end
  low, high = math.floor(low), math.ceil(high)
  return low, high > low and high or low + 1
end

return function(chart)
  local x0, x1 = decades(chart.series, 1)
  local y0, y1 = decades(chart.series, 2)
  local function px(exponent)
    return LEFT + (exponent - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
  end
  local function py(exponent)
    return HEIGHT - BOTTOM - (exponent - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
  end
  local out = {}
  local function add(...)
    out[#out + 1] = string.format(...)
  end
  add('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">', WIDTH,
    HEIGHT)
  add '<rect width="100%%" height="100%%" fill="white"/>'
  add('<text x="%d" y="22" font-size="15">%s</text>', LEFT, escape(chart.title))
  local function faint(from, to, line) -- 2 to 9 of each decade
    for e = from, to - 1 do
      for n = 2, 9 do
        line(e + log10(n))
      end
    end
  end
  faint(x0, x1, function(e)
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#f0f2f4"/>', px(e), TOP, px(e), HEIGHT - BOTTOM)
  end)
  faint(y0, y1, function(e)
    add('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#f0f2f4"/>', LEFT, py(e), WIDTH - RIGHT, py(e))
  end)
  for e = x0, x1 do
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#d0d7de"/>', px(e), TOP, px(e), HEIGHT - BOTTOM)
    add('<text x="%.1f" y="%d" text-anchor="middle">%s</text>', px(e), HEIGHT - BOTTOM + 18, short(e))
  end
  for e = y0, y1 do
    add('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d0d7de"/>', LEFT, py(e), WIDTH - RIGHT, py(e))
    add('<text x="%d" y="%.1f" text-anchor="end">%s</text>', LEFT - 6, py(e) + 4, short(e))
  end
  local span = math.min(x1 - x0, y1 - y0)
  add('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#8c959f" stroke-dasharray="4"/>', px(x0), py(y0),
    px(x0 + span), py(y0 + span))
  for i, s in ipairs(chart.series) do
    local colour, line, above = COLOURS[(i - 1) % #COLOURS + 1], {}, i % 2 == 1
    for j, p in ipairs(s.points) do
      line[j] = ("%.1f,%.1f"):format(px(log10(p[1])), py(log10(p[2])))
      add('<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%g: %g</title></circle>', px(log10(p[1])),
        py(log10(p[2])), colour, p[1], p[2])
      add('<text x="%.1f" y="%.1f" font-size="10" text-anchor="middle" fill="%s">%s</text>', px(log10(p[1])),
        py(log10(p[2])) + (above and -7 or 15), colour, value(p[2]))
    end
    add('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>', table.concat(line, " "), colour)
    add('<text x="%d" y="%d" fill="%s">%s</text>', WIDTH - RIGHT + 10, TOP + 18 * i, colour, escape(s.name))
  end
  add('<text x="%d" y="%d" text-anchor="middle">%s</text>', (LEFT + WIDTH - RIGHT) // 2, HEIGHT - 12, escape(chart.x))
  add('<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>', (TOP + HEIGHT - BOTTOM) // 2,
    escape(chart.y))
  add "</svg>"
  return table.concat(out, "\n") .. "\n"
end
