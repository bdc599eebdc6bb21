/* Checking UTF-8 with vectors; included once for each variant.
 *
 * After Keiser and Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte" (2021): what is wrong with two
 * bytes that follow each other is found by three look-ups, of both halves of the first and the high half of the second;
 * a pair is wrong where all three know of the same reason. Whether a third or fourth byte is where a longer character
 * needs it, and only there, is found by subtraction. */

#ifndef FASTWS_SIMD_UTF8_H
#define FASTWS_SIMD_UTF8_H
enum {
    SHORT = 1 << 0,      /* a lead byte, and no continuation follows */
    STRAY = 1 << 1,      /* ASCII, and a continuation follows */
    OVERLONG2 = 1 << 2,  /* C0, C1 */
    OVERLONG3 = 1 << 3,  /* E0 80..9F */
    SURROGATE = 1 << 4,  /* ED A0..BF */
    TOO_LARGE = 1 << 5,  /* F4 90..BF, F5..FF 90..BF */
    OVERLONG4 = 1 << 6,  /* F0 80..8F; and F5..FF 80..8F, which is too large */
    TWO = 1 << 7,        /* two continuations: wrong unless a third or fourth byte is due */
    ANY_LOW = SHORT | STRAY | TWO
};

static const uint8_t utf8_first_high[16] = {
    STRAY, STRAY, STRAY, STRAY, STRAY, STRAY, STRAY, STRAY, TWO, TWO, TWO, TWO, SHORT | OVERLONG2, SHORT,
    SHORT | OVERLONG3 | SURROGATE, SHORT | TOO_LARGE | OVERLONG4,
};
static const uint8_t utf8_first_low[16] = {
    ANY_LOW | OVERLONG2 | OVERLONG3 | OVERLONG4, ANY_LOW | OVERLONG2, ANY_LOW, ANY_LOW, ANY_LOW | TOO_LARGE,
    ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4,
    ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4,
    ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4 | SURROGATE,
    ANY_LOW | TOO_LARGE | OVERLONG4, ANY_LOW | TOO_LARGE | OVERLONG4,
};
static const uint8_t utf8_second_high[16] = {
    SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT,
    STRAY | TWO | OVERLONG2 | OVERLONG3 | OVERLONG4, STRAY | TWO | OVERLONG2 | OVERLONG3 | TOO_LARGE,
    STRAY | TWO | OVERLONG2 | SURROGATE | TOO_LARGE, STRAY | TWO | OVERLONG2 | SURROGATE | TOO_LARGE,
    SHORT, SHORT, SHORT, SHORT,
};

/* Where the character begins that the byte before p[i] belongs to, if one is going on there; else i. */
static inline size_t
utf8_back(const uint8_t *p, size_t start, size_t i)
{
    size_t s = i;
    while (s > start && i - s < 3 && (p[s - 1] & 0xC0) == 0x80)
        s--;
    return s > start && p[s - 1] >= 0xC0 ? s - 1 : i;
}

/* The checked text goes on up to n: what is left unfinished there is found from its last few bytes. */
static inline size_t
utf8_ending(simd_text *text, const uint8_t *p, size_t start, size_t n)
{
    simd_text last = {0};
    const size_t from = utf8_back(p, start, n);
    const size_t good = scalar_check(&last, p + from, n - from);
    text->need = last.need;
    text->low = last.low;
    text->high = last.high;
    return from + good;
}
#endif

/* Bytes that are not zero where v, which follows `before`, cannot be right. */
INLINE V
NAME(faults)(V v, V before)
{
    const V nibble = NAME(splat)(0x0F);
    const V first = NAME(prev)(v, before, 1);
    const V pair = NAME(and)(
        NAME(and)(NAME(lookup)(utf8_first_high, NAME(high_nibble)(first)),
                  NAME(lookup)(utf8_first_low, NAME(and)(first, nibble))),
        NAME(lookup)(utf8_second_high, NAME(high_nibble)(v)));
    /* 0x80 and more where two bytes before is E0 and more, or three bytes before F0 and more */
    const V due = NAME(or)(NAME(minus)(NAME(prev)(v, before, 2), NAME(splat)(0xE0 - 0x80)),
                           NAME(minus)(NAME(prev)(v, before, 3), NAME(splat)(0xF0 - 0x80)));
    return NAME(xor)(NAME(and)(due, NAME(splat)(0x80)), pair);
}

/* Goes over ASCII, four vectors at a time; returns how many bytes of it. */
INLINE size_t
NAME(ascii)(uint8_t *to, const uint8_t *from, size_t n, V mask, int unmasking)
{
    size_t i = 0;
    for (; i + 4 * V_SIZE <= n; i += 4 * V_SIZE) {
        V v[4];
        for (int k = 0; k < 4; k++) {
            v[k] = NAME(load)(from + i + k * V_SIZE);
            if (unmasking)
                v[k] = NAME(xor)(v[k], mask);
        }
        if (NAME(high)(NAME(or)(NAME(or)(v[0], v[1]), NAME(or)(v[2], v[3]))))
            break;
        for (int k = 0; unmasking && k < 4; k++)
            NAME(store)(to + i + k * V_SIZE, v[k]);
    }
    return i;
}

INLINE size_t
NAME(walk)(simd_text *text, uint8_t *to, const uint8_t *from, size_t n, uint32_t *key, int unmasking)
{
    const uint8_t *const p = unmasking ? to : from;
    size_t i = 0;
    if (text->need) { /* first the character in progress */
        const size_t rest = n < text->need ? n : text->need;
        if (unmasking) {
            scalar_unmask_few(to, from, rest, *key);
            *key = scalar_rotate(*key, rest);
        }
        i = scalar_check(text, p, rest);
        if (i < rest || rest == n)
            return i;
    }
    const size_t start = i;
    const uint32_t word = unmasking ? *key : 0;
    const V mask = NAME(splat32)(word);
    V before = NAME(splat)(0), top = before;
    int wrong = 0, open = 0, any = 0; /* `open`: there was something else than ASCII in the vector before */
    if (unmasking)
        *key = scalar_rotate(word, n - start);
    size_t chars = NAME(ascii)(unmasking ? to + i : NULL, from + i, n - i, mask, unmasking);
    for (i += chars; i < n; i += V_SIZE) {
        const size_t left = n - i;
        V v;
        if (left >= V_SIZE) {
            v = NAME(load)(from + i);
            if (unmasking) {
                v = NAME(xor)(v, mask);
                NAME(store)(to + i, v);
            }
        } else {
            v = NAME(load_part)(from + i, left, word);
            if (unmasking)
                NAME(store_part)(to + i, v, left);
        }
        const int high = NAME(high)(v);
        if (!(high | open)) {
            chars += V_SIZE;
            if (left > V_SIZE) {
                const size_t next = i + V_SIZE;
                const size_t run = NAME(ascii)(unmasking ? to + next : NULL, from + next, n - next, mask, unmasking);
                chars += run;
                i += run;
            }
            continue;
        }
        V faults = NAME(faults)(v, before);
        if (left < V_SIZE) /* zeros after a lead byte are no fault: more may come */
            faults = NAME(first_of)(faults, left);
        wrong = NAME(any)(faults);
        if (wrong)
            break;
        top = NAME(max)(top, v);
        chars += NAME(starts)(v);
        before = v;
        any |= open = high;
    }
    if (wrong) {
        simd_text again = {0};
        NAME(leave)();
        const size_t boundary = utf8_back(p, start, i);
        const size_t end = n - i < V_SIZE ? n : i + V_SIZE;
        return boundary + scalar_check(&again, p + boundary, end - boundary);
    }
    text->chars += chars - (i - n); /* the last vector is padded with zeros, which count as characters */
    if (!any)
        return n;
    const int four = NAME(any)(NAME(minus)(top, NAME(splat)(0xEF)));
    const int wide = NAME(any)(NAME(minus)(top, NAME(splat)(0xC3)));
    const uint8_t largest = four ? 0xF0 : wide ? 0xC4 : 0x80;
    text->top = largest > text->top ? largest : text->top;
    NAME(leave)();
    return open ? utf8_ending(text, p, start, n) : n;
}

static TARGET size_t
NAME(check)(simd_text *text, const uint8_t *p, size_t n)
{
    return NAME(walk)(text, NULL, p, n, NULL, 0);
}

static TARGET size_t
NAME(unmask_check)(simd_text *text, uint8_t *to, const uint8_t *from, size_t n, uint32_t *key)
{
    return NAME(walk)(text, to, from, n, key, 1);
}
