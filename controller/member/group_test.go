package member_test

import (
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// TestSizes: sizes are written and read again as they were; one group has no name there.
func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]member.Sizes{
		"5":                   {"": 5},
		"leader=1,workers=40": {"workers": 40, "leader": 1},
		"a=2147483647,b=1":    {"a": 2147483647, "b": 1},
	} {
		got, err := member.ParseSizes(text)
		if err != nil || !got.Same(want) || want.String() != text {
			t.Errorf("%s is read as %v, %v; %v is written as %s", text, got, err, want, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "2147483648", "a=", "=1", "a=0", "a=1,", "a=1,a=2", "1,2", "a=1,2", "a=1;b=2"} {
		if got, err := member.ParseSizes(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	if only := (member.Sizes{"workers": 3}); only.String() != "3" || !only.Same(member.Sizes{"": 3}) || only.Same(member.Sizes{"": 4}) {
		t.Errorf("the sizes of an only group are %s", only)
	}
	if (member.Sizes(nil)).Same(member.Sizes{"": 1}) || (member.Sizes{"a": 1, "b": 2}).Same(member.Sizes{"a": 2, "b": 1}) {
		t.Error("sizes that differ are the same")
	}
}

// TestGroups: the numbers of a workload are the sums of those of its groups, which are found by their names where there are several.
func TestGroups(t *testing.T) {
	t.Parallel()
	two := member.Workload{Groups: []member.Group{
		{Name: "leader", Size: 1, MinSize: 1, MaxSize: 1}, {Name: "workers", Size: 4, MinSize: 2, MaxSize: 8, Unit: 2},
	}}
	if two.Size() != 5 || two.MinSize() != 3 || two.MaxSize() != 9 || two.Sizes().String() != "leader=1,workers=4" || two.Sizes().Sum() != 5 {
		t.Errorf("size %d of %d to %d: %s", two.Size(), two.MinSize(), two.MaxSize(), two.Sizes())
	}
	if g := two.Group("workers"); g == nil || g.Unit != 2 || two.Group("") != nil || two.Group("others") != nil {
		t.Errorf("the workers are %+v", g)
	}
	one := member.Workload{Groups: two.Groups[1:]}
	if g := one.Group(""); g == nil || g != one.Only() || one.Sizes().String() != "4" {
		t.Errorf("the only group is %+v", g)
	}
}
