/* A candidate in C, without a JSON library: it reads the plain-text cases and writes answers as JSON lines.

       refvlm vectors DIR
       cc -O2 -o candidate validation/candidates/candidate.c -lm
       ./candidate DIR [--wrong] > answers.jsonl
       refvlm check answers.jsonl

   Shallow models; deep ones are answered with "unsupported". --wrong draws a bit by u <= p. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TENSORS 400
#define MOST_LAYERS 8
#define WORD 256

typedef struct { char name[WORD]; int axes, shape[4], count; double *data; } Tensor;
typedef struct { int layers, widths[MOST_LAYERS + 1]; const double *w[MOST_LAYERS], *b[MOST_LAYERS]; char activation[WORD]; } Net;

static Tensor tensors[MOST_TENSORS];
static int tensor_count, wrong;
static char model_activation[WORD], posterior_activation[WORD], asked[64][WORD];
static int asked_count;
static const char *refusal;  /* "shape", "domain" or "unsupported", if this question has no answer */
static char refusal_text[WORD];

/* Memory ------------------------------------------------------------------------------------------------------ */

static void *get(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size);
    if (!p) { fprintf(stderr, "out of memory\n"); exit(1); }
    return p;
}
static double *numbers(int count) { return get((size_t)count, sizeof(double)); }

/* The case ---------------------------------------------------------------------------------------------------- */

static double from_bits(const char *digits) {
    unsigned long long bits = strtoull(digits, NULL, 16);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const char *OFFERED[] = {
    "log_prior", "log_likelihood", "log_joint", "log_marginal", "posterior", "posterior_mean", "vlb_terms", "vlb", "kl",
    "grad_log_marginal", "grad_vlb", "sample", "wake_step", "sleep_step"
};
enum { OFFERED_COUNT = sizeof OFFERED / sizeof *OFFERED };

static void note(const char *quantity) {
    char name[WORD];
    snprintf(name, sizeof name, "%s", quantity);
    char *dot = strchr(name, '.');
    if (dot) *dot = 0;
    int offered = 0;
    for (int i = 0; i < OFFERED_COUNT; i++) offered |= !strcmp(OFFERED[i], name);
    if (!offered) return;
    for (int i = 0; i < asked_count; i++) if (!strcmp(asked[i], name)) return;
    strcpy(asked[asked_count++], name);
}

static int read_case(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) { perror(path); exit(1); }
    char word[WORD], name[WORD];
    for (int i = 0; i < tensor_count; i++) free(tensors[i].data);
    tensor_count = asked_count = 0;
    while (fscanf(file, "%255s", word) == 1 && strcmp(word, "end")) {
        if (word[0] == '#' || !strcmp(word, "refvlm-case-text-1")) {  /* to the end of the line */
            for (int c = fgetc(file); c != '\n' && c != EOF; c = fgetc(file)) {}
        } else if (!strcmp(word, "activation")) {
            if (fscanf(file, "%255s %255s", name, word) != 2) return 0;
            strcpy(strcmp(name, "model") ? posterior_activation : model_activation, word);
        } else if (!strcmp(word, "error")) {
            if (fscanf(file, "%255s %255s", name, word) != 2) return 0;
            note(name);
        } else if (!strcmp(word, "tensor")) {
            Tensor *t = &tensors[tensor_count++];
            if (fscanf(file, "%255s %d", t->name, &t->axes) != 2) return 0;
            t->count = 1;
            for (int a = 0; a < t->axes; a++) {
                if (fscanf(file, "%d", &t->shape[a]) != 1) return 0;
                t->count *= t->shape[a];
            }
            t->data = numbers(t->count);
            int result = !strncmp(t->name, "checks.", 7);
            if (result) note(t->name + 7);
            for (int i = 0; i < t->count; i++) {
                if (fscanf(file, "%255s %255s", word, name) != 2) return 0;  /* bits, approximation */
                t->data[i] = from_bits(word);
                if (result && fscanf(file, "%255s", word) != 1) return 0;    /* scale */
            }
        }
    }
    fclose(file);
    return 1;
}

static Tensor *find(const char *name) {
    for (int i = 0; i < tensor_count; i++) if (!strcmp(tensors[i].name, name)) return &tensors[i];
    return NULL;
}

/* Refusals: shapes first, then what the numbers may be ---------------------------------------------------------- */

static void refuse(const char *code, const char *what) {
    if (refusal) return;
    refusal = code;
    snprintf(refusal_text, sizeof refusal_text, "%.255s", what);
}

static void read_net(Net *net, const char *prefix, const char *activation) {
    char name[WORD];
    strcpy(net->activation, activation);
    net->layers = 0;
    for (int d = 0; d < MOST_LAYERS; d++) {
        snprintf(name, sizeof name, "%sweights.%d", prefix, d);
        Tensor *w = find(name);
        if (!w) break;
        snprintf(name, sizeof name, "%sbiases.%d", prefix, d);
        Tensor *b = find(name);
        if (w->axes != 2 || !b || b->axes != 1 || b->shape[0] != w->shape[1] || (d && w->shape[0] != net->widths[d])) {
            refuse("shape", name);
            return;
        }
        net->widths[d] = w->shape[0];
        net->widths[d + 1] = w->shape[1];
        net->w[d] = w->data;
        net->b[d] = b->data;
        net->layers++;
    }
}

static void check_finite(const char *prefix) {
    for (int i = 0; i < tensor_count; i++)
        if (!strncmp(tensors[i].name, prefix, strlen(prefix)) && strcmp(tensors[i].name, "model.prior.logits"))
            for (int j = 0; j < tensors[i].count; j++)
                if (!isfinite(tensors[i].data[j])) { refuse("domain", tensors[i].name); return; }
}

static void check_rows(Tensor *t, int columns) {
    if (t && (t->axes != 2 || t->shape[1] != columns)) refuse("shape", t->name);
}

static void check_bits(Tensor *t) {
    for (int i = 0; t && i < t->count; i++)
        if (t->data[i] != 0 && t->data[i] != 1) { refuse("domain", t->name); return; }
}

static void check_uniforms(Tensor *t) {
    for (int i = 0; t && i < t->count; i++)
        if (!(t->data[i] >= 0 && t->data[i] < 1)) { refuse("domain", t->name); return; }
}

/* Bernoulli units and networks ---------------------------------------------------------------------------------- */

static double sigmoid(double a) {
    double small = exp(-fabs(a));
    return (a >= 0 ? 1 : small) / (1 + small);
}
static double softplus(double a) { return (a > 0 ? a : 0) + log1p(exp(-fabs(a))); }

static double log_bernoulli(int count, const double *bits, const double *logits) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        if (isinf(logits[i])) { if ((logits[i] > 0) != (bits[i] == 1)) return -INFINITY; }
        else sum -= softplus(bits[i] == 1 ? -logits[i] : logits[i]);
    }
    return sum;
}

static double activate(const char *name, double a) {
    return name[0] == 't' ? tanh(a) : name[0] == 'r' ? (a > 0 ? a : 0) : sigmoid(a);
}
static double slope(const char *name, double h) {
    return name[0] == 't' ? 1 - h * h : name[0] == 'r' ? (h > 0) : h * (1 - h);
}

/* What enters each layer, and last the logits: hidden[d] has widths[d] numbers. */
static void forward(const Net *net, const double *input, double **hidden) {
    memcpy(hidden[0], input, (size_t)net->widths[0] * sizeof(double));
    for (int d = 0; d < net->layers; d++)
        for (int j = 0; j < net->widths[d + 1]; j++) {
            double a = net->b[d][j];
            for (int i = 0; i < net->widths[d]; i++) a += hidden[d][i] * net->w[d][i * net->widths[d + 1] + j];
            hidden[d + 1][j] = d < net->layers - 1 ? activate(net->activation, a) : a;
        }
}

/* Add to gw, gb what d/d logits `slopes` (overwritten) is in the parameters. */
static void backward(const Net *net, double **hidden, double *slopes, double **gw, double **gb) {
    double *here = numbers(4096), *below = numbers(4096);
    memcpy(here, slopes, (size_t)net->widths[net->layers] * sizeof(double));
    for (int d = net->layers - 1; d >= 0; d--) {
        int in = net->widths[d], out = net->widths[d + 1];
        for (int j = 0; j < out; j++) gb[d][j] += here[j];
        for (int i = 0; i < in; i++) {
            below[i] = 0;
            for (int j = 0; j < out; j++) {
                gw[d][i * out + j] += hidden[d][i] * here[j];
                below[i] += net->w[d][i * out + j] * here[j];
            }
            if (d) below[i] *= slope(net->activation, hidden[d][i]);
        }
        double *swap = here; here = below; below = swap;
    }
    free(here);
    free(below);
}

static double **layers_of(const Net *net) {
    double **h = get(MOST_LAYERS + 1, sizeof *h);
    for (int d = 0; d <= net->layers; d++) h[d] = numbers(net->widths[d]);
    return h;
}

/* The question -------------------------------------------------------------------------------------------------- */

static Net decoder, encoder;
static const double *beta;
static int K, L, N, C;
static double *code_bits, *log_prior, **logits;  /* of every code */

static void prepare(void) {
    C = 1 << K;
    code_bits = numbers(C * K);
    log_prior = numbers(C);
    logits = get((size_t)C, sizeof *logits);
    double **h = layers_of(&decoder);
    for (int c = 0; c < C; c++) {
        for (int k = 0; k < K; k++) code_bits[c * K + k] = (c >> k) & 1;
        log_prior[c] = log_bernoulli(K, code_bits + c * K, beta);
        forward(&decoder, code_bits + c * K, h);
        logits[c] = numbers(L);
        memcpy(logits[c], h[decoder.layers], (size_t)L * sizeof(double));
    }
}

static void joints(const double *x, double *joint) {
    for (int c = 0; c < C; c++) joint[c] = log_prior[c] + log_bernoulli(L, x, logits[c]);
}

static double log_sum_exp(const double *a, int count) {
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < count; i++) if (a[i] > most) most = a[i];
    for (int i = 0; i < count; i++) sum += exp(a[i] - most);
    return most + log(sum);
}

static double times(double weight, double value) { return weight > 0 ? weight * value : 0; }

/* Output -------------------------------------------------------------------------------------------------------- */

static int first_part;
static void print_tensor(const double *data, int axes, int s0, int s1) {
    int count = axes == 1 ? s0 : s0 * s1;
    printf(axes == 1 ? "{\"shape\":[%d],\"f64\":[" : "{\"shape\":[%d,%d],\"f64\":[", s0, s1);
    for (int i = 0; i < count; i++) {
        unsigned long long bits;
        memcpy(&bits, &data[i], sizeof bits);
        printf("%s\"%016llX\"", i ? "," : "", bits);
    }
    printf("]}");
}
static void print_part(const char *name, const double *data, int axes, int s0, int s1) {
    printf("%s\"%s\":", first_part ? "{" : ",", name);
    first_part = 0;
    print_tensor(data, axes, s0, s1);
}
static void print_net(const char *prefix, const Net *net, double **w, double **b) {
    char name[WORD];
    for (int d = 0; d < net->layers; d++) {
        snprintf(name, sizeof name, "%sweights.%d", prefix, d);
        print_part(name, w[d], 2, net->widths[d], net->widths[d + 1]);
        snprintf(name, sizeof name, "%sbiases.%d", prefix, d);
        print_part(name, b[d], 1, net->widths[d + 1], 0);
    }
}

/* Gradients ------------------------------------------------------------------------------------------------------ */

static double *g_prior, *gw_p[MOST_LAYERS], *gb_p[MOST_LAYERS], *gw_q[MOST_LAYERS], *gb_q[MOST_LAYERS];

static void clear_gradients(void) {
    g_prior = numbers(K);
    for (int d = 0; d < decoder.layers; d++) {
        gw_p[d] = numbers(decoder.widths[d] * decoder.widths[d + 1]);
        gb_p[d] = numbers(decoder.widths[d + 1]);
    }
    for (int d = 0; d < encoder.layers; d++) {
        gw_q[d] = numbers(encoder.widths[d] * encoder.widths[d + 1]);
        gb_q[d] = numbers(encoder.widths[d + 1]);
    }
}

/* Add weight * d log p(x, z). */
static void add_joint(const double *x, const double *z, double weight) {
    double **h = layers_of(&decoder), *slopes = numbers(L);
    forward(&decoder, z, h);
    for (int i = 0; i < L; i++) slopes[i] = weight * (x[i] - sigmoid(h[decoder.layers][i]));
    backward(&decoder, h, slopes, gw_p, gb_p);
    for (int k = 0; k < K; k++) if (!isinf(beta[k])) g_prior[k] += weight * (z[k] - sigmoid(beta[k]));
}

/* Add d/d encoder logits. */
static void add_recognition(const double *x, double *slopes) {
    double **h = layers_of(&encoder);
    forward(&encoder, x, h);
    backward(&encoder, h, slopes, gw_q, gb_q);
}

static void step(double *gradient, const double *value, int count, double rate) {
    for (int i = 0; i < count; i++) gradient[i] = value[i] + rate * gradient[i];
}

static double fire(double u, double logit) { return wrong ? u <= sigmoid(logit) : u < sigmoid(logit); }

/* Dreams: z from the prior, x given z. */
static int dream(double **z, double **x) {
    Tensor *uz = find("inputs.uniforms_z"), *ux = find("inputs.uniforms_x");
    int S = uz->shape[0];
    *z = numbers(S * K);
    *x = numbers(S * L);
    double **h = layers_of(&decoder);
    for (int s = 0; s < S; s++) {
        for (int k = 0; k < K; k++) (*z)[s * K + k] = fire(uz->data[s * K + k], beta[k]);
        forward(&decoder, *z + s * K, h);
        for (int i = 0; i < L; i++) (*x)[s * L + i] = fire(ux->data[s * L + i], h[decoder.layers][i]);
    }
    return S;
}

static int is(const char *a, const char *b) { return !strcmp(a, b); }

static void answer(const char *quantity) {
    Tensor *x = find("inputs.x"), *z = find("inputs.z");
    int pairs = is(quantity, "log_prior") || is(quantity, "log_likelihood") || is(quantity, "log_joint");
    int drawn = is(quantity, "sample") || is(quantity, "sleep_step");
    int wake = is(quantity, "wake_step"), gradient = !strncmp(quantity, "grad", 4);
    int bound = !strncmp(quantity, "vlb", 3) || is(quantity, "kl") || is(quantity, "grad_vlb");
    int recognises = bound || wake || is(quantity, "sleep_step");
    refusal = NULL;
    if (!find("model.prior.logits")) refuse("unsupported", "deep models");
    if (!refusal) read_net(&decoder, "model.decoder.", model_activation);
    if (!refusal) {
        K = decoder.widths[0];
        L = decoder.widths[decoder.layers];
        Tensor *b = find("model.prior.logits");
        beta = b->data;
        if (b->axes != 1 || b->shape[0] != K) refuse("shape", b->name);
    }
    if (!refusal && recognises) {
        read_net(&encoder, "posterior.encoder.", posterior_activation);
        if (!refusal && (encoder.widths[0] != L || encoder.widths[encoder.layers] != K)) refuse("shape", "encoder");
    }
    if (!refusal && !drawn && !is(quantity, "log_prior")) check_rows(x, L);
    if (!refusal && pairs) check_rows(z, K);
    if (!refusal && pairs && !is(quantity, "log_prior") && x->shape[0] != z->shape[0]) refuse("shape", "x and z");
    if (!refusal) check_finite("model.");
    for (int k = 0; !refusal && k < K; k++) if (isnan(beta[k])) refuse("domain", "model.prior.logits");
    if (!refusal && recognises) check_finite("posterior.");
    if (!refusal && !drawn && !is(quantity, "log_prior")) check_bits(x);
    if (!refusal && pairs) check_bits(z);
    if (!refusal && drawn) { check_uniforms(find("inputs.uniforms_z")); check_uniforms(find("inputs.uniforms_x")); }
    if (refusal) {
        printf("\"error\":{\"code\":\"%s\",\"message\":\"%s\"}", refusal, refusal_text);
        return;
    }
    prepare();
    clear_gradients();
    printf("\"result\":");
    first_part = 1;
    N = pairs && is(quantity, "log_prior") ? z->shape[0] : drawn ? 0 : x->shape[0];
    double *row = numbers(N), *terms[3] = {numbers(N), numbers(N), numbers(N)}, *table = numbers(N * C);
    double *mean = numbers(N * K), *joint = numbers(C), *log_q = numbers(C), *slopes = numbers(K);
    double **h = recognises ? layers_of(&encoder) : NULL;
    if (drawn) {
        double *dz, *dx;
        int S = dream(&dz, &dx);
        if (is(quantity, "sample")) {
            print_part("x", dx, 2, S, L);
            print_part("z", dz, 2, S, K);
        } else {
            double rate = find("inputs.learning_rate")->data[0] / S;
            for (int s = 0; s < S; s++) {
                forward(&encoder, dx + s * L, h);
                for (int k = 0; k < K; k++) slopes[k] = dz[s * K + k] - sigmoid(h[encoder.layers][k]);
                add_recognition(dx + s * L, slopes);
            }
            for (int d = 0; d < encoder.layers; d++) {
                step(gw_q[d], encoder.w[d], encoder.widths[d] * encoder.widths[d + 1], rate);
                step(gb_q[d], encoder.b[d], encoder.widths[d + 1], rate);
            }
            print_net("encoder.", &encoder, gw_q, gb_q);
        }
        printf("}");
        return;
    }
    for (int n = 0; n < N; n++) {
        const double *xn = x->data + (x->axes == 2 ? n * L : 0);
        if (pairs) {
            const double *zn = z->data + n * K;
            double prior = log_bernoulli(K, zn, beta), **hz = layers_of(&decoder);
            forward(&decoder, zn, hz);
            double likelihood = is(quantity, "log_prior") ? 0 : log_bernoulli(L, xn, hz[decoder.layers]);
            row[n] = is(quantity, "log_prior") ? prior : is(quantity, "log_joint") ? prior + likelihood : likelihood;
            continue;
        }
        if (wake) {
            Tensor *u = find("inputs.wake_uniforms_z");
            double *zn = numbers(K);
            forward(&encoder, xn, h);
            for (int k = 0; k < K; k++) zn[k] = fire(u->data[n * K + k], h[encoder.layers][k]);
            add_joint(xn, zn, 1);
            continue;
        }
        joints(xn, joint);
        double log_px = log_sum_exp(joint, C);
        if (!bound) {
            row[n] = log_px;
            for (int c = 0; c < C; c++) {
                double p = exp(joint[c] - log_px);
                table[n * C + c] = p;
                for (int k = 0; k < K; k++) mean[n * K + k] += p * code_bits[c * K + k];
                if (gradient) add_joint(xn, code_bits + c * K, p);
            }
            continue;
        }
        forward(&encoder, xn, h);
        double gap = 0;
        for (int k = 0; k < K; k++) slopes[k] = 0;
        for (int c = 0; c < C; c++) {
            const double *code = code_bits + c * K;
            log_q[c] = log_bernoulli(K, code, h[encoder.layers]);
            double q = exp(log_q[c]);
            terms[0][n] += times(q, log_prior[c]);
            terms[1][n] += times(q, log_bernoulli(L, xn, logits[c]));
            terms[2][n] -= times(q, log_q[c]);
            gap += times(q, log_q[c] - joint[c] + log_px);
            if (gradient) {
                add_joint(xn, code, q);
                for (int k = 0; k < K; k++)
                    slopes[k] += times(q, joint[c] - log_q[c]) * (code[k] - sigmoid(h[encoder.layers][k]));
            }
        }
        if (gradient) add_recognition(xn, slopes);
        row[n] = is(quantity, "kl") ? gap : terms[0][n] + terms[1][n] + terms[2][n];
    }
    if (wake) {
        double rate = find("inputs.learning_rate")->data[0] / N;
        step(g_prior, beta, K, rate);
        for (int d = 0; d < decoder.layers; d++) {
            step(gw_p[d], decoder.w[d], decoder.widths[d] * decoder.widths[d + 1], rate);
            step(gb_p[d], decoder.b[d], decoder.widths[d + 1], rate);
        }
    }
    if (wake || is(quantity, "grad_log_marginal")) {
        print_part("prior.logits", g_prior, 1, K, 0);
        print_net("decoder.", &decoder, gw_p, gb_p);
        printf("}");
    } else if (is(quantity, "grad_vlb")) {
        print_part("model.prior.logits", g_prior, 1, K, 0);
        print_net("model.decoder.", &decoder, gw_p, gb_p);
        print_net("posterior.encoder.", &encoder, gw_q, gb_q);
        printf("}");
    } else if (is(quantity, "vlb_terms")) {
        print_part("prior", terms[0], 1, N, 0);
        print_part("reconstruction", terms[1], 1, N, 0);
        print_part("entropy", terms[2], 1, N, 0);
        printf("}");
    } else if (is(quantity, "posterior")) print_tensor(table, 2, N, C);
    else if (is(quantity, "posterior_mean")) print_tensor(mean, 2, N, K);
    else print_tensor(row, 1, N, 0);
}

int main(int argc, char **argv) {
    char path[4096], id[WORD];
    wrong = argc == 3 && !strcmp(argv[2], "--wrong");
    if (argc != 2 + wrong) { fprintf(stderr, "usage: candidate DIR [--wrong]\n"); return 2; }
    snprintf(path, sizeof path, "%s/text/INDEX", argv[1]);
    FILE *index = fopen(path, "r");
    if (!index) { perror(path); return 1; }
    printf("{\"implementation\":{\"name\":\"C candidate\",\"version\":\"1\",\"language\":\"C\",\"precision\":\"float64\"},"
           "\"quantities\":[");
    for (int i = 0; i < OFFERED_COUNT; i++) printf("%s\"%s\"", i ? "," : "", OFFERED[i]);
    printf("]}\n");
    while (fscanf(index, "%255s", id) == 1) {
        snprintf(path, sizeof path, "%s/text/%s.txt", argv[1], id);
        if (!read_case(path)) { fprintf(stderr, "%s: cannot be read\n", path); return 1; }
        for (int i = 0; i < asked_count; i++) {
            printf("{\"case\":\"%s\",\"quantity\":\"%s\",", id, asked[i]);
            answer(asked[i]);
            printf("}\n");
        }
    }
    fclose(index);
    return 0;
}
