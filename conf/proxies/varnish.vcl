# Varnish 7: /etc/varnish/default.vcl. The broker needs trusted_proxies = { "127.0.0.1" }.
vcl 4.1;

import std;

backend tidegate {
    .host = "127.0.0.1";
    .port = "8080";
    .probe = { .url = "/"; .interval = 1s; .timeout = 1s; .window = 1; .threshold = 1; .initial = 1; }
}

sub vcl_recv {
    if (req.url !~ "^/events") {
        return (synth(404));
    }
    unset req.http.X-Request-Id; # the broker makes one
    unset req.http.X-Forwarded-Proto; # a client's own; set it where something in front of Varnish ends TLS
    # The broker is away. An EventSource gives up for good on any status but 200: this answer makes it reconnect.
    if (req.method == "GET" && !std.healthy(req.backend_hint)) {
        return (synth(799));
    }
    # Passed streams would wait for a second read before their first event leaves.
    if (req.method == "GET") {
        return (pipe);
    }
    return (pass);
}

sub vcl_pipe {
    set bereq.http.Connection = "close";
}

sub vcl_synth {
    if (resp.status == 799) {
        set resp.status = 200;
        set resp.http.Content-Type = "text/event-stream";
        set resp.http.Cache-Control = "no-store";
        synthetic("retry: 3000" + {"

"});
        return (deliver);
    }
}
