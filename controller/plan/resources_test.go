package plan_test

import (
	"math"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// TestLargeAmounts: what is more than an int64 holds is the most that it holds, and not nothing.
func TestLargeAmounts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ cpu, memory int64 }{
		"3":                    {3000, 3},
		"3800m":                {3800, 4},
		"1Ki":                  {1024000, 1024},
		"9E":                   {math.MaxInt64, 9000000000000000000},
		"9223372036854775807":  {math.MaxInt64, math.MaxInt64},
		"9223372036854775808":  {math.MaxInt64, math.MaxInt64},
		"9223372036854775807m": {math.MaxInt64, 9223372036854776},
		"10E":                  {math.MaxInt64, math.MaxInt64},
		"8Ei":                  {math.MaxInt64, math.MaxInt64},
	} {
		q := resource.MustParse(text)
		r := plan.ResourcesOf(corev1.ResourceList{corev1.ResourceCPU: q, corev1.ResourceMemory: q})
		if r[corev1.ResourceCPU] != want.cpu || r[corev1.ResourceMemory] != want.memory {
			t.Errorf("%s is %v, want %v", text, r, want)
		}
	}
}
