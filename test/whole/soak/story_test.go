package soak

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// story is what has happened, with the times.
type story struct {
	began time.Time

	mu    sync.Mutex
	lines []string
}

func (s *story) tell(format string, arguments ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.lines = append(
		s.lines, fmt.Sprintf("%s %6.1fs  ", now.UTC().Format("15:04:05.000"), now.Sub(s.began).Seconds())+fmt.Sprintf(format, arguments...),
	)
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}
