/* An upstream's URL: its parts, and what is no URL. */
#include <arpa/inet.h>
#include <check.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_text.h"
#include "unit.h"

static struct loaded load_url(const char *url)
{
    char text[512];

    snprintf(text, sizeof text, "[upstream openai]\nurl = %s\n", url);
    return config_text_load(text);
}

START_TEST(url_parts)
{
    static const struct {
        const char *url, *origin, *path, *query, *host, *socket;
        bool tls;
    } urls[] = {
        {"https://H.example", "https://H.example", "", "", "H.example", "", true},
        {"http://127.0.0.1:8080/a/b/", "http://127.0.0.1:8080", "/a/b", "", "127.0.0.1", "", false},
        {"https://[::1]:8443/v1", "https://[::1]:8443", "/v1", "", "[::1]", "", true},
        {"unix:/run/x.sock", "http://localhost", "", "", "localhost", "/run/x.sock", false},
        {"unix:/run/x.sock:/v1/", "http://localhost", "/v1", "", "localhost", "/run/x.sock", false},
        {"unix:/run/a:b:/", "http://localhost", "", "", "localhost", "/run/a:b", false},
        {"https://h?a=b", "https://h", "", "a=b", "h", "", true},
        {"https://h/v1/?a=/b/&c=?", "https://h", "/v1", "a=/b/&c=?", "h", "", true},
        {"https://h/v1?", "https://h", "/v1", "", "h", "", true},
        {"https://x.openai.azure.com/openai/deployments/{model}?api-version=2024-10-21",
         "https://x.openai.azure.com", "/openai/deployments/{model}", "api-version=2024-10-21",
         "x.openai.azure.com", "", true},
        {"http://h/a-{model}-b/c", "http://h", "/a-{model}-b/c", "", "h", "", false},
        {"unix:/run/x?a=b", "http://localhost", "", "a=b", "localhost", "/run/x", false},
        {"unix:/run/x:/{model}/?a=:/b", "http://localhost", "/{model}", "a=:/b", "localhost",
         "/run/x", false},
    };

    for (size_t i = 0; i < COUNT(urls); i++) {
        struct loaded l = load_url(urls[i].url), again;
        const struct config_upstream *u;
        char *dump, *second;

        ck_assert_str_eq(l.problems, "");
        u = &l.config->upstreams[0];
        ck_assert_str_eq(u->origin, urls[i].origin);
        ck_assert_str_eq(u->base_path, urls[i].path);
        ck_assert_str_eq(u->query, urls[i].query);
        ck_assert_str_eq(u->host, urls[i].host);
        ck_assert_str_eq(u->unix_socket, urls[i].socket);
        ck_assert_int_eq(u->tls, urls[i].tls);
        dump = config_text_dump(l.config);
        again = config_text_load(dump);
        ck_assert_str_eq(again.problems, "");
        second = config_text_dump(again.config);
        ck_assert_str_eq(second, dump);
        /* A query may hold a key: only its names are shown. */
        ck_assert(!urls[i].query[0] == !again.config->upstreams[0].query[0]);
        free(dump);
        free(second);
        loaded_deinit(&l);
        loaded_deinit(&again);
    }
}
END_TEST

START_TEST(urls_that_are_none)
{
    static const char *const urls[][2] = {
        {"ftp://h", "https://, http:// or unix:/"},
        {"https://", "a host name"},
        {"https:///v1", "a host name"},
        {"https://u:secretpw@h/v1", "without a user name or password"},
        {"https://h/v1?key=secretpw", "a query without a key"},
        {"https://h/v1?a=b&API-Key=secretpw", "a query without a key"},
        {"https://h/v1?secretpw", "a query without a key"},
        {"https://h/v1?x=sk-secretpw", "a query without a key"},
        {"https://h/#x", "without a fragment"},
        {"https://h/?a=b#x", "without a fragment"},
        {"https://h:0/", "a port from 1 to 65535"},
        {"https://h:65536/", "a port from 1 to 65535"},
        {"https://h:/", "a port from 1 to 65535"},
        {"https://[::zz]/", "a host name"},
        {"https://h h/", "without spaces"},
        {"https://h\xc3\xa9/", "printable ASCII"},
        {"unix:run/x", "an absolute path after unix:"},
        {"unix:", "an absolute path after unix:"},
        {"unix:?a=b", "an absolute path after unix:"},
    };

    for (size_t i = 0; i < COUNT(urls); i++) {
        struct loaded l = load_url(urls[i][0]);

        ck_assert_ptr_null(l.config);
        ck_assert_msg(strstr(l.problems, urls[i][1]) != NULL, "%s", l.problems);
        ck_assert_ptr_null(strstr(l.problems, "secretpw"));
    }
}
END_TEST

/* Braces mean one thing in one place; whatever else they may be meant for is told at once. */
START_TEST(braces_of_urls)
{
    static const char none[] = "no braces except {model}, which stands for the model's name";
    static const char path[] = "{model} only in the path of the URL, and no other braces";
    const char *const urls[][2] = {
        {"http://h/{Model}", none},     {"http://h/{deployment}", none},
        {"http://h/{model", none},      {"http://h/model}", none},
        {"http://h/{}", none},          {"http://h/{{model}}", none},
        {"http://h/{model}}", none},    {"http://h/{model}/{model}", "{model} only once"},
        {"http://h/x?m={model}", path}, {"http://h/{model}?m={model}", path},
        {"unix:/run/{model}", path},    {"unix:/run/{model}:/v1", path},
        {"unix:/run/x:/{name}", none},  {"unix:/run/x:/v1?m=}", path},
    };

    for (size_t i = 0; i < COUNT(urls); i++) {
        struct loaded l = load_url(urls[i][0]);
        char wanted[256];

        ck_assert_ptr_null(l.config);
        snprintf(wanted, sizeof wanted, "expected %s\n", urls[i][1]);
        ck_assert_msg(strstr(l.problems, wanted) != NULL, "%s: %s", urls[i][0], l.problems);
    }
    /* Not a host name in any case. */
    ck_assert_ptr_nonnull(strstr(load_url("http://{model}.h/v1").problems, "a host name"));
}
END_TEST

START_TEST(only_openai_may_leave_the_url_out)
{
    struct loaded l = config_text_load("[server]\n[upstream azure]\nauth_header = api-key\n");

    ck_assert_str_eq(l.problems,
                     "t.conf:2: [upstream azure] url: is missing; expected a URL such as "
                     "https://api.openai.com/v1 (only the upstream named openai may omit it)\n");
}
END_TEST

static bool leads(const char *url, const char *address)
{
    struct loaded l = load_url(url);
    bool yes;

    ck_assert_msg(l.config != NULL, "%s", l.problems);
    yes = config_leads_to(&l.config->upstreams[0], address);
    loaded_deinit(&l);
    return yes;
}

START_TEST(an_address_of_this_machine_leads_back)
{
    static const struct {
        const char *url, *address;
        bool leads;
    } cases[] = {
        {"http://192.0.2.1:4891", "192.0.2.1:4891", true},
        {"http://192.0.2.1:4892", "192.0.2.1:4891", false},
        {"http://192.0.2.1:4891", "0.0.0.0:4891", false},  /* nobody's (RFC 5737) */
        {"http://[2001:db8::1]:4891", "[::]:4891", false}, /* nor that one (RFC 3849) */
        {"http://[::1]:4891", "[::]:4891", true},
        {"http://127.0.0.9:4891", "0.0.0.0:4891", true},
        {"http://0.0.0.0:4891", "127.0.0.1:4891", true},
        {"http://[::]:4891", "0.0.0.0:4891", true},
        {"http://0.0.0.0:4891", "192.0.2.1:4891", false},
        {"http://localhost:4891", "127.0.0.1:4891", true},
        {"http://a.localhost:4891", "[::]:4891", true},
        {"http://localhost:4891", "192.0.2.1:4891", false},
        {"http://127.0.0.1:4891", "localhost:4891", true},
        {"http://other.example:4891", "0.0.0.0:4891", false},
        {"http://other.example:4891", "127.0.0.1:4891", false},
        {"http://192.0.2.1:4891", "systemd's:4891", false}, /* an address that is none */
        {"http://192.0.2.1", "192.0.2.1:80", true},
        {"https://192.0.2.1", "192.0.2.1:443", true},
        {"unix:/run//a.sock", "unix:/run/a.sock", true},
        {"unix:/run/b.sock", "unix:/run/a.sock", false},
        {"unix:/run/a.sock", "127.0.0.1:80", false},
    };
    struct ifaddrs *all;
    char name[256], own[300];

    for (size_t i = 0; i < COUNT(cases); i++)
        ck_assert_msg(leads(cases[i].url, cases[i].address) == cases[i].leads, "%s and %s",
                      cases[i].url, cases[i].address);
    ck_assert_int_eq(gethostname(name, sizeof name), 0);
    snprintf(own, sizeof own, "http://%s:4891", name);
    ck_assert_msg(leads(own, "0.0.0.0:4891"), "%s", own);
    ck_assert_int_eq(getifaddrs(&all), 0);
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        char ip[INET_ADDRSTRLEN], url[64];

        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, ip,
                  sizeof ip);
        snprintf(url, sizeof url, "http://%s:4891", ip);
        ck_assert_msg(leads(url, "0.0.0.0:4891"), "%s", url);
    }
    freeifaddrs(all);
}
END_TEST

START_TEST(proxies_that_are_none)
{
    static const char form[] =
        "a URL such as http://proxy.example:3128 (http, https, socks4, socks4a, socks5 or socks5h)";
    static const char *const proxies[][2] = {
        {"http://h h:1", form},
        {"http://h:0", "a port from 1 to 65535"},
        {"http://h:65536", "a port from 1 to 65535"},
        {"http://u:p@h:x", "a port from 1 to 65535"},
        {"http://", form},
        {"http://h\xc3\xa9", form},
        {"http://[::1", form},
        {"http://[1]:1", form},
        {"h:1", form},
    };

    for (size_t i = 0; i < COUNT(proxies); i++) {
        char text[512];
        struct loaded l;

        snprintf(text, sizeof text, "[upstream a]\nurl = http://h\nproxy = %s\n", proxies[i][0]);
        l = config_text_load(text);
        ck_assert_ptr_null(l.config);
        ck_assert_msg(strstr(l.problems, proxies[i][1]) != NULL, "%s: %s", proxies[i][0],
                      l.problems);
        loaded_deinit(&l);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "url");

    tcase_add_test(all, url_parts);
    tcase_add_test(all, urls_that_are_none);
    tcase_add_test(all, braces_of_urls);
    tcase_add_test(all, only_openai_may_leave_the_url_out);
    tcase_add_test(all, proxies_that_are_none);
    tcase_add_test(all, an_address_of_this_machine_leads_back);
}
