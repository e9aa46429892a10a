package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// sums is the file with the checksums of all others.
const sums = "SHA256SUMS"

// writeSums writes what `sha256sum --check` reads, and says what there is.
func (r *release) writeSums(files map[string]func(io.Writer) error) error {
	return create(filepath.Join(r.output, sums), func(w io.Writer) error {
		for _, file := range slices.Sorted(maps.Keys(files)) {
			content, err := os.ReadFile(filepath.Join(r.output, file))
			if err != nil {
				return err
			}
			sum := fmt.Sprintf("%x  %s\n", sha256.Sum256(content), file)
			if _, err := io.WriteString(io.MultiWriter(w, r.progress), sum); err != nil {
				return err
			}
		}
		return nil
	})
}
