/* u u~ > c c~ behind the UMAMI interface, version 1, with variants for the tests. */

#include <math.h>
#include <stddef.h>
#include <string.h>

#ifndef N_LEGS
#define N_LEGS 4
#endif
#ifndef DEVICE
#define DEVICE 0
#endif
#ifndef STATUS
#define STATUS 0
#endif
#ifndef FACTOR
#define FACTOR 1
#endif

enum { OK, FAILED, NOT_IMPLEMENTED, UNSUPPORTED_INPUT, UNSUPPORTED_OUTPUT };

static double own_alpha_s = 0.13;
static int one_instance;

int umami_get_meta(int key, void *result)
{
    if (key > 1)
        return FAILED;
    *(int *)result = key == 0 ? DEVICE : N_LEGS;
    return OK;
}

int umami_initialize(void **handle, const char *param_card)
{
    *handle = &one_instance;
    return OK;
}

int umami_set_parameter(void *handle, const char *name, double real, double imaginary)
{
    return NOT_IMPLEMENTED;
}

int umami_get_parameter(void *handle, const char *name, double *real, double *imaginary)
{
#ifdef HAS_ITS_OWN_ALPHA_S
    if (strcmp(name, "aS") == 0) {
        *real = own_alpha_s;
        return OK;
    }
#endif
    return NOT_IMPLEMENTED;
}

static double square_of_difference(const double *p, size_t stride, size_t a, size_t b)
{
    double sum = 0;
    for (size_t component = 0; component < 4; ++component) {
        double d = p[stride * (a + 4 * component)] - p[stride * (b + 4 * component)];
        sum += component == 0 ? d * d : -d * d;
    }
    return sum;
}

#ifndef WITHOUT_EVALUATION
int umami_matrix_element(
    void *handle, size_t count, size_t stride, size_t offset, size_t n_inputs,
    const int *input_keys, const void *const *inputs, size_t n_outputs, const int *output_keys,
    void *const *outputs)
{
    const double *momenta = NULL, *alpha_s = NULL;
    for (size_t i = 0; i < n_inputs; ++i) {
        if (input_keys[i] == 0)
            momenta = inputs[i];
#ifdef TAKES_ALPHA_S
        else if (input_keys[i] == 1)
            alpha_s = inputs[i];
#endif
        else
            return UNSUPPORTED_INPUT;
    }
    if (n_outputs != 1 || output_keys[0] != 0)
        return UNSUPPORTED_OUTPUT;
    for (size_t i = offset; i < offset + count; ++i) {
        double t = square_of_difference(momenta + i, stride, 0, 2);
        double u = square_of_difference(momenta + i, stride, 0, 3);
        double s = -t - u;
        double g2 = 4 * 3.14159265358979323846 * (alpha_s ? alpha_s[i] : own_alpha_s);
        double value = FACTOR * 4.0 / 9.0 * g2 * g2 * (t * t + u * u) / (s * s);
#ifdef VALUE
        value = VALUE;
#endif
        ((double *)outputs[0])[i] = value;
    }
    return STATUS;
}
#endif

int umami_free(void *handle)
{
    return OK;
}
