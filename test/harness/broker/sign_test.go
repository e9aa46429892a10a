package broker

import (
	"encoding/base64"
	"os"
	"strconv"
)

func uid() string { return strconv.Itoa(os.Getuid()) }

// signAs wraps a jobspec for a user as RFC 15 has it.
func signAs(jobspec, user string) string {
	header := "version\x00i1\x00userid\x00i" + user + "\x00mechanism\x00snone\x00"
	return base64.StdEncoding.EncodeToString([]byte(header)) + "." + base64.StdEncoding.EncodeToString([]byte(jobspec)) + ".none"
}
