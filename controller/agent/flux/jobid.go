package flux

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// JobID names a job in its instance: a FLUID of RFC 19.
type JobID uint64

// NoJob is the id of no job: that which ends the backlog of a journal.
const NoJob JobID = math.MaxUint64

// base58 is the alphabet of F58.
const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// String is the id as Flux shows it to people: ƒ and base 58.
func (id JobID) String() string {
	const most = 11 // 58^11 > 2^64
	var digits [most]byte
	at := most
	for rest := id; ; {
		at--
		digits[at] = base58[rest%58]
		if rest /= 58; rest == 0 {
			return "ƒ" + string(digits[at:])
		}
	}
}

// ParseJobID reads an id in the notations of RFC 19 that people and programs use: F58 (ƒ… or f…), hexadecimal (0x…), dotted
// hexadecimal and decimal. Words and emoji are not read.
func ParseJobID(text string) (JobID, error) {
	id, err := parseJobID(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("job id %q: %w", shorten(text), err)
	}
	return id, nil
}

func parseJobID(text string) (JobID, error) {
	if strings.Contains(text, ".") {
		return parseDotted(text)
	}
	for _, prefix := range []string{"ƒ", "f"} {
		if digits, is := strings.CutPrefix(text, prefix); is {
			return parseBase58(digits)
		}
	}
	base := 10
	if digits, is := strings.CutPrefix(text, "0x"); is {
		text, base = digits, 16
	}
	number, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return 0, errors.New("neither base 58 after ƒ, nor hexadecimal after 0x, nor decimal")
	}
	return JobID(number), nil
}

func parseDotted(text string) (JobID, error) {
	groups := strings.Split(text, ".")
	if len(groups) != 4 {
		return 0, errors.New("a dotted id has four groups of four hexadecimal digits")
	}
	var id JobID
	for _, group := range groups {
		number, err := strconv.ParseUint(group, 16, 16)
		if err != nil || len(group) != 4 {
			return 0, errors.New("a dotted id has four groups of four hexadecimal digits")
		}
		id = id<<16 | JobID(number)
	}
	return id, nil
}

func parseBase58(digits string) (JobID, error) {
	if digits == "" {
		return 0, errors.New("nothing follows ƒ")
	}
	var id uint64
	for _, digit := range []byte(digits) {
		value := strings.IndexByte(base58, digit)
		if value < 0 {
			return 0, fmt.Errorf("%q is no digit of base 58", digit)
		}
		high, low := bits.Mul64(id, 58)
		sum, carry := bits.Add64(low, uint64(value), 0)
		if high != 0 || carry != 0 {
			return 0, errors.New("it does not fit into 64 bits")
		}
		id = sum
	}
	return JobID(id), nil
}

// UnmarshalJSON reads a number. flux-core writes its 64 bits with a sign, so that NoJob is -1.
func (id *JobID) UnmarshalJSON(text []byte) error {
	if number, err := strconv.ParseUint(string(text), 10, 64); err == nil {
		*id = JobID(number)
		return nil
	}
	number, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("job id %s is not a whole number of 64 bits", shorten(string(text)))
	}
	*id = JobID(number) //nolint:gosec // The same 64 bits.
	return nil
}

// MarshalJSON writes a number as flux-core does, with a sign.
func (id JobID) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, int64(id), 10), nil //nolint:gosec // The same 64 bits.
}
