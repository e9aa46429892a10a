package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

// FileStore keeps it in a file.
type FileStore struct{ Path string }

// stored is what the file has.
type stored struct {
	Instance string `json:"instance"`
	Kept
}

// Load reads the file. What is of another instance, or not there, is nothing.
func (f FileStore) Load(instance string) (Kept, error) {
	text, err := os.ReadFile(f.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Kept{}, nil
	case err != nil:
		return Kept{}, fmt.Errorf("read progress: %w", err)
	}
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return Kept{}, fmt.Errorf("read progress from %s: %w", f.Path, err)
	}
	if s.Instance != instance {
		return Kept{}, nil
	}
	if s.Granted == nil {
		s.Granted = rules.Progress{}
	}
	return s.Kept, nil
}

// Save writes the file beside the old one and puts it in its place.
func (f FileStore) Save(instance string, kept Kept) error {
	text, err := json.Marshal(stored{Instance: instance, Kept: kept})
	if err != nil {
		return fmt.Errorf("write progress: %w", err)
	}
	next, err := os.CreateTemp(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".*")
	if err != nil {
		return fmt.Errorf("write progress: %w", err)
	}
	_, err = next.Write(text)
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), f.Path)
	}
	if err != nil {
		return fmt.Errorf("write progress: %w", errors.Join(err, os.Remove(next.Name())))
	}
	return nil
}
