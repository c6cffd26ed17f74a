/* What a processor can do: the article's training written by hand, sixteen runs in a vector.

   Linear model of 2 features and a bias, Adam, batches of 32, 32, 32 and 4, 200 epochs = 800
   updates, reshuffled each epoch; a seed's conditions share data and order. Rows are visited
   one by one. Kept of each epoch: loss and |gradient| of each feature, in `curves`, which every
   seed of a thread overwrites. Only GCC's vector extensions are used, no processor's own.

   cc -O3 -march=native -fno-math-errno -shared -fPIC -o kernel.so kernel.c -lm -lpthread       */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum { ROWS = 100, EPOCHS = 200, BATCH = 32, LANES = 16, CURVES = 3 };
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef struct { int first, last, conditions; float *curves, *weights; } Job;

static vec all(float x) { return x - (vec){}; }

static vec root(vec x)
{
    for (int k = 0; k < LANES; k++) x[k] = sqrtf(x[k]);
    return x;
}

static vec magnitude(vec x)
{
    for (int k = 0; k < LANES; k++) x[k] = fabsf(x[k]);
    return x;
}

static float uniform(unsigned *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return (*state >> 8) * (1.f / 16777216);
}

static void adam(vec *weight, vec *first, vec *second, vec gradient, vec rate, float c1, float c2)
{
    *first += .1f * (gradient - *first);
    *second += .001f * (gradient * gradient - *second);
    *weight -= rate * (*first * c1) / (root(*second * c2) + 1e-7f);
}

/* Train all conditions of a seed; their scale factors go from 1 to 1000. */
static void train_seed(int seed, Job *job)
{
    static __thread float x0[EPOCHS * ROWS], x1[EPOCHS * ROWS], residual[EPOCHS * ROWS];
    unsigned state = seed * 2654435761u + 1;
    float u0[ROWS], u1[ROWS], noise[ROWS];
    int place[ROWS], conditions = job->conditions;
    for (int i = 0; i < ROWS; i++) {
        u0[i] = uniform(&state);
        u1[i] = uniform(&state);
        noise[i] = 20 * (uniform(&state) + uniform(&state) + uniform(&state) - 1.5f);
        place[i] = i;
    }
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        for (int i = ROWS - 1; i > 0; i--) {
            int j = uniform(&state) * (i + 1), kept = place[i];
            place[i] = place[j];
            place[j] = kept;
        }
        for (int i = 0; i < ROWS; i++) {
            x0[epoch * ROWS + i] = u0[place[i]];
            x1[epoch * ROWS + i] = u1[place[i]];
            residual[epoch * ROWS + i] = noise[place[i]];
        }
    }
    const vec rate = all(1e-3f);
    for (int c = 0; c < conditions; c += LANES) {
        vec scale, w0 = all(.3f), w1 = all(-.5f), b = {}, p[6] = {};
        for (int k = 0; k < LANES; k++) scale[k] = powf(1000, (float)(c + k) / conditions);
        float decay1 = 1, decay2 = 1;
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            vec loss = {}, norm0 = {}, norm1 = {};
            for (int start = 0; start < ROWS; start += BATCH) {
                int rows = ROWS - start < BATCH ? ROWS - start : BATCH, at = epoch * ROWS + start;
                vec d0 = w0 - 2, d1 = scale * (w1 - .5f);
                vec g0[2] = {}, g1[2] = {}, gb[2] = {}, l[2] = {};
                for (int i = 0; i < rows; i += 2)
                    for (int k = 0; k < 2; k++) { /* two sums, so that none waits for the other */
                        vec error = x0[at + i + k] * d0 + x1[at + i + k] * d1
                                    + (b - residual[at + i + k]);
                        g0[k] += x0[at + i + k] * error;
                        g1[k] += x1[at + i + k] * error;
                        gb[k] += error;
                        l[k] += error * error;
                    }
                float mean = 1.f / rows;
                vec of0 = 2 * mean * (g0[0] + g0[1]), of1 = 2 * mean * scale * (g1[0] + g1[1]);
                decay1 *= .9f;
                decay2 *= .999f;
                float c1 = 1 / (1 - decay1), c2 = 1 / (1 - decay2);
                adam(&w0, p + 0, p + 1, of0, rate, c1, c2);
                adam(&w1, p + 2, p + 3, of1, rate, c1, c2);
                adam(&b, p + 4, p + 5, 2 * mean * (gb[0] + gb[1]), rate, c1, c2);
                loss += mean * (l[0] + l[1]);
                norm0 += magnitude(of0);
                norm1 += magnitude(of1);
            }
            float *curve = job->curves + (size_t)epoch * CURVES * conditions + c;
            for (int k = 0; k < LANES; k++) {
                curve[k] = loss[k];
                curve[conditions + k] = norm0[k];
                curve[2 * conditions + k] = norm1[k];
            }
        }
        for (int k = 0; k < LANES; k++) job->weights[(size_t)seed * conditions + c + k] = w1[k];
    }
}

static void *work(void *argument)
{
    Job *job = argument;
    for (int seed = job->first; seed < job->last; seed++) train_seed(seed, job);
    return 0;
}

/* Train seeds × conditions (a multiple of 16) runs; the last weight of each goes to `weights`. */
void train(int seeds, int conditions, int threads, float *weights)
{
    pthread_t ids[64];
    Job jobs[64];
    if (threads > 64) threads = 64;
    for (int i = 0; i < threads; i++) {
        float *curves = malloc(sizeof(float) * EPOCHS * CURVES * conditions);
        jobs[i] = (Job){seeds * i / threads, seeds * (i + 1) / threads, conditions, curves, weights};
        pthread_create(ids + i, 0, work, jobs + i);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], 0);
        free(jobs[i].curves);
    }
}
