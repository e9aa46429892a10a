// Package trust watches whether the answers of a replica can be trusted, for servers whose clients would stay with one that has lost the
// API server: a readiness probe sends new connections elsewhere, and no others.
package trust

import (
	"context"
	"time"
)

// poll is how often it is asked.
const poll = time.Second

// Watch asks once a second whether answers can be trusted, until the context ends. Each time that they could not be for so long it calls
// lost with true, and with false each time that they can be.
//
// Where no replica can reach the API server, clients are no worse off than with connections that stay: each request would be refused on
// them too.
func Watch(ctx context.Context, trusted func() error, after time.Duration, lost func(is bool)) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var since time.Time // since when they cannot be trusted; zero while they can
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch {
		case trusted() == nil:
			since = time.Time{}
			lost(false)
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= after:
			lost(true)
		}
	}
}
