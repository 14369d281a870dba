# HTTP libraries of Ruby. As most such loops do, this one remembers the id of an event that it handed over,
# and nothing else.
require "json"
require "uri"

NAME, URL = ARGV
TIMEOUT = 60 # longer than the broker's heartbeat
$stdout.sync = true

class Refused < StandardError; end

def say(**line) = puts(line.to_json)

class Stream
  attr_reader :retry

  def initialize
    @last, @retry = nil, 1.0
  end

  def headers = { "Accept" => "text/event-stream", "Last-Event-ID" => @last }.compact

  def opened(status)
    raise Refused, "status #{status}" unless status == 200
    @rest = String.new
    @type, @id, @data = nil, nil, []
    say(open: true)
  end

  def feed(bytes)
    @rest << bytes
    while (at = @rest.index("\n"))
      line(@rest.slice!(0, at + 1).chomp("\n").force_encoding("UTF-8"))
    end
  end

  def line(text)
    if text.empty?
      unless @data.empty?
        @last = @id || @last
        say(event: @type || "message", id: @id || "", data: @data.join("\n"))
      end
      @type, @id, @data = nil, nil, []
      return
    end
    field, value = text.split(":", 2)
    value = value.to_s.delete_prefix(" ")
    case field
    when "data" then @data << value
    when "event" then @type = value
    when "id" then @id = value
    when "retry" then @retry = value.to_i / 1000.0
    end
  end
end

def read_net_http(stream)
  require "net/http"
  uri = URI(URL)
  Net::HTTP.start(uri.host, uri.port, read_timeout: TIMEOUT, max_retries: 0) do |http|
    http.request_get(uri.request_uri, stream.headers) do |response|
      stream.opened(response.code.to_i)
      response.read_body { |bytes| stream.feed(bytes) }
    end
  end
end

def read_em_http(stream)
  require "em-http"
  failure = nil
  EventMachine.run do
    http = EventMachine::HttpRequest.new(URL, inactivity_timeout: TIMEOUT).get(head: stream.headers)
    http.headers { |head| head.status == 200 and stream.opened(200) }
    http.stream { |bytes| stream.feed(bytes) if http.response_header.status == 200 }
    http.callback do
      failure = Refused.new("status #{http.response_header.status}") if http.response_header.status != 200
      EventMachine.stop
    end
    http.errback do
      failure = RuntimeError.new(http.error.to_s)
      EventMachine.stop
    end
  end
  raise failure if failure
end

stream = Stream.new
read = { "net/http" => :read_net_http, "em-http-request" => :read_em_http }.fetch(NAME)
loop do
  begin
    send(read, stream)
  rescue Refused => e
    say(end: e.message)
    break
  rescue StandardError => e
    say(error: "#{e.class}: #{e.message}")
  end
  sleep stream.retry
end
