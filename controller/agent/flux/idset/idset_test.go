package idset

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func mustParse(t testing.TB, text string) Set {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		set   string
		count int
	}{
		"":                        {"", 0},
		"[]":                      {"", 0},
		"0":                       {"0", 1},
		"[0]":                     {"0", 1},
		"1-3,5-6,42":              {"1-3,5-6,42", 6},
		"[1-3,5-6,42]":            {"1-3,5-6,42", 6},
		"1,2,3,5,6,42":            {"1-3,5-6,42", 6},
		"42,5-6,1-3":              {"1-3,5-6,42", 6},
		"1-5,2-3,5-7":             {"1-7", 7},
		"3-3":                     {"3", 1},
		"0-4294967295":            {"0-4294967295", 1 << 32},
		"4294967294,4294967295,0": {"0,4294967294-4294967295", 3},
	} {
		s := mustParse(t, text)
		if s.String() != want.set || s.Count() != want.count {
			t.Errorf("%q: %q with %d ids, want %q with %d", text, s, s.Count(), want.set, want.count)
		}
	}
}

func TestWhatIsNoSet(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"x", ",", "1,", ",1", "1,,2", "-", "1-", "-1", "3-2", "1-2-3", "+1", " 1", "1 ", "4294967296", "[1", "1]", "[[1]]", "all", "1.5", "0x1",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q: %q, want an error", text, s)
		}
	}
	if _, err := Parse(strings.Repeat("1,", 1<<20) + "1"); err == nil || len(err.Error()) > 100 {
		t.Errorf("very many ranges: %v, want a short error", err)
	}
	if _, err := Parse(strings.Repeat("x", 1<<20)); err == nil || len(err.Error()) > 400 {
		t.Error("a very long word: want a short error")
	}
}

// TestOperations holds sets of ranges against sets of ids one by one.
func TestOperations(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() (Set, map[uint32]bool) {
		ids := map[uint32]bool{}
		var all []uint32
		for range random.IntN(20) {
			id := random.Uint32N(30)
			ids[id] = true
			all = append(all, id)
		}
		return Of(all...), ids
	}
	check := func(what string, a, b, got Set, want func(id uint32) bool) {
		var ids []uint32
		for id := range uint32(32) {
			if want(id) {
				ids = append(ids, id)
			}
			if got.Contains(id) != want(id) {
				t.Fatalf("%q %s %q is %q: contains %d is %t", a, what, b, got, id, got.Contains(id))
			}
		}
		if !slices.Equal(slices.Collect(got.All()), ids) || got.Count() != len(ids) || got.Empty() != (len(ids) == 0) {
			t.Fatalf("%q %s %q is %q, want %v", a, what, b, got, ids)
		}
		if most, some := got.Max(); some != (len(ids) > 0) || some && most != ids[len(ids)-1] {
			t.Fatalf("%q: the largest is %d, %t", got, most, some)
		}
		if back := mustParse(t, got.String()); !back.Equal(got) || back.Compare(got) != 0 {
			t.Fatalf("%q is read as %q", got, back)
		}
	}
	for range 5000 {
		a, inA := draw()
		b, inB := draw()
		before := a.String()
		check("and", a, b, a.Union(b), func(id uint32) bool { return inA[id] || inB[id] })
		check("with", a, b, a.Intersect(b), func(id uint32) bool { return inA[id] && inB[id] })
		check("without", a, b, a.Minus(b), func(id uint32) bool { return inA[id] && !inB[id] })
		if a.String() != before {
			t.Fatalf("%q was changed to %q", before, a)
		}
	}
}

func TestTheLargestIDs(t *testing.T) {
	t.Parallel()
	all := mustParse(t, "0-4294967295")
	last := Of(math.MaxUint32)
	if got := all.Minus(last).String(); got != "0-4294967294" {
		t.Errorf("all without the last: %q", got)
	}
	if got := all.Minus(last).Union(last); !got.Equal(all) {
		t.Errorf("all but the last, and the last: %q", got)
	}
	if got := slices.Collect(last.All()); !slices.Equal(got, []uint32{math.MaxUint32}) {
		t.Errorf("the ids of the last: %v", got)
	}
	if got := Range(3, 3); !got.Empty() {
		t.Errorf("from 3 up to 3: %q", got)
	}
}

func TestSetsAreTextInJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(map[string]Set{"ranks": Range(2, 4)})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]Set
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if string(text) != `{"ranks":"2-3"}` || !back["ranks"].Equal(Range(2, 4)) {
		t.Errorf("%s is read as %v", text, back)
	}
	if err := json.Unmarshal([]byte(`{"ranks":"2-x"}`), &back); err == nil {
		t.Error("a set that cannot be read: want an error")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "[0-3,7]", "5,4,3", "0-4294967295", "1-3,2-9"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(s.String())
		if err != nil || !back.Equal(s) {
			t.Fatalf("%q is %q, which is read as %q, %v", text, s, back, err)
		}
		if !s.Union(s).Equal(s) || !s.Intersect(s).Equal(s) || !s.Minus(s).Empty() {
			t.Fatalf("%q with itself", s)
		}
	})
}
