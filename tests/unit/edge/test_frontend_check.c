/* edge/frontend_check: which request headers are accepted. */
#include "edge/frontend_check.h"

#include <check.h>
#include <stdio.h>

#include "unit.h"

/* A POST to `target` with the fields that follow, each as "Name: value" up to a NULL. */
static unsigned check_headers(struct http_request *request, const char *target, const char *version,
                              const char *const *fields, const char **ret_why)
{
    http_request_init(request);
    ck_assert_int_eq(http_request_text(&request->method, "POST"), 0);
    ck_assert_int_eq(http_request_text(&request->target, target), 0);
    for (; *fields; fields++) {
        const char *colon = strchr(*fields, ':');

        ck_assert_int_eq(headers_add(&request->headers,
                                     (struct str){*fields, (size_t)(colon - *fields)},
                                     str_trim(str_from(colon + 1))),
                         0);
    }
    *ret_why = NULL;
    return frontend_check(request, version, ret_why);
}

static unsigned status_of(const char *target, const char *version, const char *const *fields)
{
    struct http_request request;
    const char *why;
    unsigned status = check_headers(&request, target, version, fields, &why);

    ck_assert(status == 0 || str_starts(str_from(why), STR("retryd: ")));
    http_request_deinit(&request);
    return status;
}

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(lengths_up_to_the_largest)
{
    static const struct {
        const char *length;
        unsigned status;
    } cases[] = {
        {"Content-Length: 0", 0},
        {"Content-Length: 9223372036854775807", 0},
        {"Content-Length: 18446744073709551614", 0},
        {"Content-Length: 18446744073709551615", 413},
        {"Content-Length: 18446744073709551616", 400},
        {"Content-Length: ", 400},
        {"Content-Length: -1", 400},
        {"Content-Length: 1 ,1", 400},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        ck_assert_uint_eq(status_of("/", "HTTP/1.1", FIELDS("Host: a", cases[i].length)),
                          cases[i].status);
}
END_TEST

START_TEST(versions)
{
    ck_assert_uint_eq(status_of("/", "HTTP/1.0", FIELDS("X: 1")), 0);
    ck_assert_uint_eq(status_of("/", "HTTP/1.1", FIELDS("Host: a")), 0);
    ck_assert_uint_eq(status_of("/", "HTTP/1.2", FIELDS("Host: a")), 0);
    ck_assert_uint_eq(status_of("/", "HTTP/1.9", FIELDS("Host: a")), 0);
    ck_assert_uint_eq(status_of("/", "HTTP/1.2", FIELDS("X: 1")), 400);
    ck_assert_uint_eq(status_of("/", "HTTP/1.10", FIELDS("Host: a")), 505);
    ck_assert_uint_eq(status_of("/", "HTTP/2.0", FIELDS("Host: a")), 505);
    ck_assert_uint_eq(status_of("/", "http/1.1", FIELDS("Host: a")), 505);
}
END_TEST

START_TEST(absolute_targets_name_the_host)
{
    static const struct {
        const char *target, *becomes, *host;
    } cases[] = {
        {"http://api.example/v1/x?y=1", "/v1/x?y=1", "api.example"},
        {"HTTP://api.example:80/v1", "/v1", "api.example:80"},
        {"https://[::1]:4290/v1", "/v1", "[::1]:4290"},
        {"http://a", "/", "a"},
        {"http://a?b", "/?b", "a"},
        {"http://a//b", "//b", "a"},
        {"/http://b/c", "/http://b/c", "was.example"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_request request;
        const char *why;
        struct str host;

        ck_assert_uint_eq(check_headers(&request, cases[i].target, "HTTP/1.1",
                                        FIELDS("X: 1", "host: was.example"), &why),
                          0);
        ck_assert(str_eq(buf_str(&request.target), str_from(cases[i].becomes)));
        ck_assert_int_eq(request.target.p[request.target.len], '\0');
        ck_assert(headers_get(&request.headers, STR("Host"), &host));
        ck_assert(str_eq(host, str_from(cases[i].host)));
        ck_assert_uint_eq(request.headers.count, 2);
        http_request_deinit(&request);
    }
    ck_assert_uint_eq(status_of("http://", "HTTP/1.1", FIELDS("Host: a")), 400);
    ck_assert_uint_eq(status_of("http:///v1", "HTTP/1.1", FIELDS("Host: a")), 400);
    ck_assert_uint_eq(status_of("http://me@a/v1", "HTTP/1.1", FIELDS("Host: a")), 400);
    ck_assert_uint_eq(status_of("ftp://a/v1", "HTTP/1.1", FIELDS("Host: a")), 400);
    ck_assert_uint_eq(status_of("http://a/#x", "HTTP/1.1", FIELDS("Host: a")), 400);
    ck_assert_uint_eq(status_of("http://a/", "HTTP/1.1", FIELDS("X: 1")), 400);
    ck_assert_uint_eq(status_of("http://a/", "HTTP/1.0", FIELDS("X: 1")), 0);
    ck_assert_uint_eq(status_of("*", "HTTP/1.1", FIELDS("Host: a")), 400);
}
END_TEST

START_TEST(c30_a_port_is_a_number_and_the_end)
{
    static const char *const names[] = {"localhost", "[::1]", "api.example:99"};
    static const struct {
        const char *host;
        bool in;
    } cases[] = {
        {"localhost", true},
        {"localhost:", true},
        {"localhost:65535", true},
        {"localhost:x", false},
        {"localhost:4290x", false},
        {"localhost:4290, evil", false},
        {"localhost:80:90", false},
        {"localhost/", false},
        {"localhost evil", false},
        {"localhost:123456", false},
        {"[::1]", true},
        {"[::1]:80", true},
        {"[::1]evil.example", false},
        {"[::1]:x", false},
        {"[::1]:", true},
        {"[::1", false},
        {"api.example:99", true},
        {"api.example", false},
        {"api.example:99:99", false},
        {"", false},
        {":80", false},
    };
    struct string_view_list hosts = {names, COUNT(names)}, none = {NULL, 0};

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct headers h;
        const char *why;

        headers_init(&h);
        ck_assert_int_eq(headers_add(&h, STR("Host"), str_from(cases[i].host)), 0);
        ck_assert_msg(frontend_may_enter(&h, hosts, none, &why) == cases[i].in, "%s",
                      cases[i].host);
        headers_deinit(&h);
    }
}
END_TEST

/* --- what libmicrohttpd 0.9.75 leaves in memory ------------------------------------------------- */

static char *behind_nuls(char *at, const char *end)
{
    while (at < end && *at == '\0')
        at++;
    return at;
}

/* The head as it parses it: in place, with NULs for the ends of words and lines. Bars are NULs. */
static bool trail_is_good(const char *memory)
{
    struct frontend_trail t;
    char text[200];
    const char *end = text + strlen(memory);
    char *at, *method = text, *target, *version = text + (strstr(memory, "HTTP/") - memory);

    snprintf(text, sizeof text, "%s", memory);
    for (char *p = text; *p; p++)
        if (*p == '|')
            *p = '\0';
    target = method + strlen(method) + 1;
    frontend_trail_begin(&t, str_from(method), str_from(target), version);
    at = behind_nuls(version + strlen(version), end);
    while (at && at < end) {
        struct str name = str_from(at), value;

        at += name.n + 1;
        at += strspn(at, " \t");
        value = str_from(at);
        at = behind_nuls(at + value.n, end);
        frontend_trail_field(&t, name, value);
    }
    return frontend_trail_ends(&t, end);
}

START_TEST(a_trail_without_gaps)
{
    ck_assert(trail_is_good("GET|/|HTTP/1.1||||"));
    ck_assert(trail_is_good("GET|/|HTTP/1.1||Host| a||||"));
    ck_assert(trail_is_good("GET|/|HTTP/1.1||Host|a||X|\t ||Y| b c||||"));
    ck_assert_msg(!trail_is_good("GET|/a|b|HTTP/1.1||Host| a||||"), "a NUL in the target");
    ck_assert_msg(!trail_is_good("GET|/|HTTP/1.1|Host| a||||"), "a bare LF");
    ck_assert_msg(!trail_is_good("GET|/|HTTP/1.1||Host| a|X| b||||"), "a bare LF");
    ck_assert_msg(!trail_is_good("GET|/|HTTP/1.1||Host| a||X| sk|y||||"), "a NUL in a value");
    ck_assert_msg(!trail_is_good("GET|/|HTTP/1.1||Host| a||X| sk|||||"), "a NUL at its end");
    ck_assert_msg(!trail_is_good("GET|/|HTTP/1.1||Host| a||| x||"), "no name");
}
END_TEST

START_TEST(a_trail_with_a_field_elsewhere)
{
    /* A folded line: the name was copied to the end of the read buffer, and the line added to it. */
    static const char memory[] = "GET\0/\0HTTP/1.1\0\0X-T\0 v\0\0 cont\0\0\0\0X-Tcont";
    const char *fields = memory + sizeof("GET\0/\0HTTP/1.1\0");
    struct frontend_trail t;

    frontend_trail_begin(&t, STR("GET"), (struct str){memory + 4, 1}, memory + 6);
    ck_assert(t.next == fields);
    frontend_trail_field(&t, (struct str){memory + sizeof(memory) - 8, 7},
                         (struct str){fields + 5, 1});
    ck_assert(!frontend_trail_ends(&t, memory + sizeof(memory) - 8));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *interim = unit_case(suite, "heads"), *trails = unit_case(suite, "trails");

    tcase_add_test(interim, lengths_up_to_the_largest);
    tcase_add_test(interim, versions);
    tcase_add_test(interim, absolute_targets_name_the_host);
    tcase_add_test(interim, c30_a_port_is_a_number_and_the_end);
    tcase_add_test(trails, a_trail_without_gaps);
    tcase_add_test(trails, a_trail_with_a_field_elsewhere);
}
