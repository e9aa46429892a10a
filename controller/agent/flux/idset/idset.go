// Package idset has sets of ids, such as ranks of brokers, in the notation of Flux RFC 22: "0-3,7". A set is a list of ranges, so
// that "0-100000" takes no more room than "0".
package idset

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxRanges bounds the ranges of a set that is parsed: an instance of Flux has at most some hundred thousand ranks.
const maxRanges = 1 << 20

// span is the ids from first to last, both in it.
type span struct{ first, last uint32 }

// Set is a set of ids. The zero value is the empty set. A Set is never changed: what would change it returns another one, so it can
// be copied and shared.
type Set struct {
	// spans are in ascending order, with at least one id missing between two of them.
	spans []span
}

// Of is the set of some ids, in any order and with repetitions.
func Of(ids ...uint32) Set {
	spans := make([]span, 0, len(ids))
	for _, id := range ids {
		spans = append(spans, span{id, id})
	}
	return normalize(spans)
}

// Range is the set of the ids from first up to, and without, end: what is written [first, end). It is empty where end is not larger.
func Range(first, end uint32) Set {
	if end <= first {
		return Set{}
	}
	return Set{spans: []span{{first, end - 1}}}
}

// Parse reads a set in the notation of RFC 22, with or without brackets around it. "" is the empty set. What RFC 22 asks of a
// writer, ascending order and no repetitions, is not asked here.
func Parse(text string) (Set, error) {
	inner := text
	if strings.HasPrefix(inner, "[") && strings.HasSuffix(inner, "]") {
		inner = inner[1 : len(inner)-1]
	}
	if inner == "" {
		return Set{}, nil
	}
	if n := strings.Count(inner, ",") + 1; n > maxRanges {
		return Set{}, fmt.Errorf("idset of %d ranges: at most %d", n, maxRanges)
	}
	var spans []span
	for element := range strings.SplitSeq(inner, ",") {
		from, to, isRange := strings.Cut(element, "-")
		if !isRange {
			to = from
		}
		first, err := parseID(from)
		if err != nil {
			return Set{}, parseError(text, element)
		}
		last, err := parseID(to)
		if err != nil || last < first {
			return Set{}, parseError(text, element)
		}
		spans = append(spans, span{first, last})
	}
	return normalize(spans), nil
}

// parseID reads one id. strconv alone would take a sign.
func parseID(text string) (uint32, error) {
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, strconv.ErrSyntax
	}
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err
}

func parseError(text, element string) error {
	const shown = 40
	if len(text) > shown {
		text = text[:shown] + "…"
	}
	if len(element) > shown {
		element = element[:shown] + "…"
	}
	return fmt.Errorf("idset %q: %q is neither an id nor a range such as 0-3", text, element)
}

// normalize sorts ranges and joins those that touch or overlap. It keeps the slice.
func normalize(spans []span) Set {
	if len(spans) == 0 {
		return Set{}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	joined := spans[:1]
	for _, next := range spans[1:] {
		current := &joined[len(joined)-1]
		switch {
		case current.last == math.MaxUint32 || next.first <= current.last+1:
			current.last = max(current.last, next.last)
		default:
			joined = append(joined, next)
		}
	}
	return Set{spans: joined}
}

// String is the set in the notation of RFC 22, "" for the empty one.
func (s Set) String() string {
	var out strings.Builder
	for i, r := range s.spans {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.FormatUint(uint64(r.first), 10))
		if r.last > r.first {
			out.WriteByte('-')
			out.WriteString(strconv.FormatUint(uint64(r.last), 10))
		}
	}
	return out.String()
}

// MarshalText is String.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is Parse.
func (s *Set) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Empty says that there is no id in it.
func (s Set) Empty() bool { return len(s.spans) == 0 }

// Equal says that two sets have the same ids.
func (s Set) Equal(other Set) bool { return slices.Equal(s.spans, other.spans) }

// Compare orders sets by their lowest ranges. The empty set is first.
func (s Set) Compare(other Set) int {
	return slices.CompareFunc(s.spans, other.spans, func(a, b span) int {
		if c := cmp.Compare(a.first, b.first); c != 0 {
			return c
		}
		return cmp.Compare(a.last, b.last)
	})
}

// Count is the number of ids.
func (s Set) Count() int {
	count := 0
	for _, r := range s.spans {
		count += int(r.last-r.first) + 1
	}
	return count
}

// Contains says whether an id is in it.
func (s Set) Contains(id uint32) bool {
	_, found := slices.BinarySearchFunc(s.spans, id, func(r span, id uint32) int {
		switch {
		case r.last < id:
			return -1
		case r.first > id:
			return 1
		default:
			return 0
		}
	})
	return found
}

// Max is the largest id, and whether there is one.
func (s Set) Max() (uint32, bool) {
	if s.Empty() {
		return 0, false
	}
	return s.spans[len(s.spans)-1].last, true
}

// All yields the ids in ascending order.
func (s Set) All() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for _, r := range s.spans {
			for id := uint64(r.first); id <= uint64(r.last); id++ {
				if !yield(uint32(id)) { //nolint:gosec // It is at most last.
					return
				}
			}
		}
	}
}

// Union has the ids of both.
func (s Set) Union(other Set) Set {
	return normalize(slices.Concat(s.spans, other.spans))
}

// Intersect has the ids that are in both.
func (s Set) Intersect(other Set) Set {
	var common []span
	for i, j := 0, 0; i < len(s.spans) && j < len(other.spans); {
		a, b := s.spans[i], other.spans[j]
		if first, last := max(a.first, b.first), min(a.last, b.last); first <= last {
			common = append(common, span{first, last})
		}
		if a.last < b.last {
			i++
		} else {
			j++
		}
	}
	return Set{spans: common}
}

// Minus has the ids that are not in the other.
func (s Set) Minus(other Set) Set {
	var left []span
	j := 0
	for _, r := range s.spans {
		first, gone := r.first, false
		for ; j < len(other.spans) && other.spans[j].first <= r.last; j++ {
			without := other.spans[j]
			if without.last < first {
				continue
			}
			if without.first > first {
				left = append(left, span{first, without.first - 1})
			}
			if without.last >= r.last {
				// It may reach into the next range too, so it is looked at again.
				gone = true
				break
			}
			first = without.last + 1
		}
		if !gone {
			left = append(left, span{first, r.last})
		}
	}
	return Set{spans: left}
}
