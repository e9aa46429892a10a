package flux

import (
	"encoding/json"
	"math"
	"testing"
)

// The ids are the examples of RFC 19.
func TestJobIDs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		id    JobID
		texts []string
	}{
		{6731191091817518, []string{"ƒuZZybuNNy", "fuZZybuNNy", "0x17e9fb8df16c2e", "0017.e9fb.8df1.6c2e", " 6731191091817518\n"}},
		{0xedaf97d000000, []string{"ƒZemgA8Bzf", "0xedaf97d000000", "000e.daf9.7d00.0000"}},
		{0, []string{"ƒ1", "f1", "0", "0x0"}},
		{NoJob, []string{"ƒjpXCZedGfVQ", "18446744073709551615", "0xffffffffffffffff", "ffff.ffff.ffff.ffff"}},
	} {
		for _, text := range row.texts {
			if id, err := ParseJobID(text); err != nil || id != row.id {
				t.Errorf("%q: %d, %v; want %d", text, uint64(id), err, uint64(row.id))
			}
		}
		if got := row.id.String(); got != row.texts[0] {
			t.Errorf("%d: %q, want %q", uint64(row.id), got, row.texts[0])
		}
	}
}

func TestWhatIsNoJobID(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "ƒ", "f", "ƒ0", "ƒl", "ƒjpXCZedGfVR", "0x", "0x1ffffffffffffffff", "18446744073709551616", "-1", "+1", "1_0", "1.2", "0017.e9fb.8df1",
		"0017.e9fb.8df1.6c2", "x", "reform-remote-galileo",
	} {
		if id, err := ParseJobID(text); err == nil {
			t.Errorf("%q: %d, want an error", text, uint64(id))
		}
	}
}

func TestJobIDsInJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]JobID{
		"-1": NoJob, "0": 0, "9223372036854775807": math.MaxInt64, "18446744073709551615": NoJob, "-9223372036854775808": 1 << 63,
	} {
		var id JobID
		if err := json.Unmarshal([]byte(text), &id); err != nil || id != want {
			t.Errorf("%s: %d, %v; want %d", text, uint64(id), err, uint64(want))
		}
	}
	for _, text := range []string{"1.5", `"1"`, "null", "true", "1e3"} {
		var id JobID
		if err := json.Unmarshal([]byte(text), &id); err == nil {
			t.Errorf("%s: %d, want an error", text, uint64(id))
		}
	}
	if text, err := json.Marshal(map[string]JobID{"id": NoJob}); err != nil || string(text) != `{"id":-1}` {
		t.Errorf("%s, %v; want -1, because flux-core reads 64 bits with a sign", text, err)
	}
}

func FuzzParseJobID(f *testing.F) {
	for _, text := range []string{"ƒuZZybuNNy", "0x17e9fb8df16c2e", "0017.e9fb.8df1.6c2e", "6731191091817518"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseJobID(text)
		if err != nil {
			return
		}
		if back, err := ParseJobID(id.String()); err != nil || back != id {
			t.Fatalf("%q is %d, and %s is %d, %v", text, uint64(id), id, uint64(back), err)
		}
	})
}
