package flux

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// decodeJSON reads the JSON of a payload. Fields that are not known are passed over.
func decodeJSON(payload []byte, into any) error {
	text := wire.Unterminated(payload)
	if len(text) == 0 {
		return errors.New("it is empty, and should be a JSON object")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after its JSON")
	}
	return nil
}

// missing is the error of a field that has to be there.
func missing(field string) error {
	return fmt.Errorf("%q is missing", field)
}

// unixTime is the time of a number of seconds since 1970, to the microsecond: more does not fit into the numbers of JSON.
func unixTime(seconds float64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(seconds * 1e6)).UTC()
}
