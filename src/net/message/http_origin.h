/* Whose page sent a request, and by which name the server was asked: what browsers say of themselves,
 * and what keeps one site from using another's cookies or network. Pure. */
#ifndef NET_MESSAGE_HTTP_ORIGIN_H
#define NET_MESSAGE_HTTP_ORIGIN_H

#include "net/message/http_cors.h"

enum http_site {
    HTTP_SITE_OWN,     /* a page of this very origin, the address bar, or no browser at all */
    HTTP_SITE_LISTED,  /* a page of an origin that is configured */
    HTTP_SITE_FOREIGN, /* a page of any other origin, or of one that does not say */
};

/* Sec-Fetch-Site counts where there is one (W3C Fetch Metadata): pages cannot set it, and proxies do not
 * change it. Else Origin must be the Host that was asked, or configured. Siblings ("same-site") are
 * foreign: what one name of a domain serves may be anybody's. Cookies never come along from an
 * origin that is covered by "*" only: no page may send them with it, a form would. */
enum http_site http_origin_site(const struct http_cors *cors, const struct http_request *rq);

/* Is `host` (HOST or HOST:PORT) a name of this machine alone (localhost, 127.0.0.0/8, [::1]), or one of
 * `hosts`? */
bool http_host_is_local(struct slice host, char *const *hosts, size_t host_count);

#endif
