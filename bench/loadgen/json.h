/* JSON as services send it: keys come again in each message, values differ. The same for the same --seed. */

#define PICK(of) of[random_in(0, sizeof of / sizeof *of - 1)]
#define PUT(...) at += snprintf(at, (size_t)(end - at) + 1, __VA_ARGS__)

enum { LEAST_OBJECT = 110, LEAST_LIST = 600 };

static const char *const KINDS[] = {"message", "trade", "status", "update"};
static const char *const NAMES[] = {"marta.k", "jonas", "li.wei", "aisha", "o.petrov", "sam_r", "nina", "carlos.m",
                                    "yuki", "tom.b", "elena", "farid", "greta", "henrik", "ines", "pavel"};
static const char *const SYMBOLS[] = {"BTC-USD", "ETH-EUR", "SOL-USD", "ADA-EUR", "XRP-USD", "DOT-EUR", "LTC-USD"};
static const char *const WORDS[] = {
    "the", "to", "and", "a", "of", "in", "is", "it", "you", "that", "for", "on", "was", "with", "as", "have", "but",
    "be", "they", "we", "at", "this", "not", "from", "order", "update", "please", "meeting", "tomorrow", "server",
    "release", "check", "number", "price", "customer", "delivery", "ready", "started", "waiting", "minutes", "question",
    "answer", "thanks", "again", "before", "after", "because", "should", "could", "would", "people", "system", "report",
    "change", "problem", "version", "ticket", "review", "deploy", "morning", "account", "invoice", "payment", "address",
    "running", "failed", "quickly", "never", "always", "another", "between", "without", "through", "during", "against",
    "project", "history", "message", "channel", "network", "response", "request", "battery", "garden", "weather"};

/* One object of exactly `size` bytes: fields as long as they fit, and a text that takes up the rest. */
static void put_object(char *at, size_t size) {
    static uint64_t time = 1763813888123;
    static uint32_t id = 48213377;
    char field[128], *end = at + size;
    time += random_in(0, 400), id += random_in(1, 60);
    PUT("{\"type\":\"%s\",\"id\":%u,\"time\":%llu,\"user\":\"%s\"", PICK(KINDS), id, (unsigned long long)time, PICK(NAMES));
    for (int f = 0; f < 6; f++) {
#define FIELD(...) snprintf(field, sizeof field, __VA_ARGS__)
        if (f == 0) FIELD(",\"symbol\":\"%s\",\"price\":%u.%02u", PICK(SYMBOLS), random_in(1, 60000), random_in(0, 99));
        if (f == 1) FIELD(",\"size\":%u.%04u,\"side\":\"%s\"", random_in(0, 19), random_in(0, 9999),
                          random_in(0, 1) ? "buy" : "sell");
        if (f == 2) FIELD(",\"room\":\"%s-%u\",\"edited\":%s", random_in(0, 1) ? "general" : "support",
                          random_in(1, 40), random_in(0, 4) ? "false" : "true");
        if (f == 3) FIELD(",\"session\":\"%016llx%08x\"", (unsigned long long)random64(), random_in(0, UINT32_MAX - 1));
        if (f == 4) FIELD(",\"position\":{\"lat\":%u.%06u,\"lon\":%u.%06u}", random_in(0, 89), random_in(0, 999999),
                          random_in(0, 179), random_in(0, 999999));
        if (f == 5) FIELD(",\"counts\":{\"views\":%u,\"likes\":%u,\"replies\":%u}", random_in(0, 100000),
                          random_in(0, 2000), random_in(0, 100));
#undef FIELD
        if (strlen(field) + sizeof ",\"text\":\"\"}" > (size_t)(end - at)) break;
        if (f == 0 || random_in(0, 3)) PUT("%s", field);
    }
    PUT(",\"text\":\"");
    end -= 2;
    for (const char *space = ""; at < end; space = " ") {
        PUT("%s%s", space, PICK(WORDS));
        if (at > end) at = end;     /* snprintf tells what there would have been */
    }
    end[0] = '"', end[1] = '}';
}

/* A message of exactly `size` bytes, and a NUL: one object, or a list of them. */
static void put_json(char *at, size_t size) {
    if (size < LEAST_LIST) {
        put_object(at, size);
        return;
    }
    char *const end = at + size, *const last = end - 2;
    PUT("{\"type\":\"list\",\"page\":%u,\"items\":[", random_in(1, 100000));
    for (;;) {
        size_t left = (size_t)(last - at), n = random_in(160, 400);
        if (left < n + 1 + 160) n = left;
        put_object(at, n);
        if ((at += n) == last) break;
        *at++ = ',';
    }
    last[0] = ']', last[1] = '}';
}
#undef PICK
#undef PUT
