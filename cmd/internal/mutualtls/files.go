package mutualtls

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

// Files brings material from files and reads them again and again. They are compared by their content: a Secret that is
// mounted changes by a symbolic link being replaced, of which watches of the files themselves know nothing.
type Files struct {
	// CertificateFile, KeyFile and AuthoritiesFile are the paths of what Material is made of. The last is empty where
	// clients show no certificates.
	CertificateFile, KeyFile, AuthoritiesFile string
	// Security is who gets it.
	Security *Security
	// Every is how often the files are read.
	Every time.Duration
	Clock clock.WithTicker
	Log   logr.Logger

	last Material
}

// Load reads the files and puts what they hold in force, unless it is already.
func (f *Files) Load() error {
	var next Material
	for _, file := range []struct {
		path    string
		content *[]byte
	}{{f.CertificateFile, &next.Certificate}, {f.KeyFile, &next.Key}, {f.AuthoritiesFile, &next.Authorities}} {
		if file.path == "" {
			continue
		}
		content, err := os.ReadFile(file.path)
		if err != nil {
			return err
		}
		*file.content = content
	}
	if next.equal(f.last) {
		return nil
	}
	if err := f.Security.Use(next); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(strings.Join([]string{f.CertificateFile, f.KeyFile, f.AuthoritiesFile}, ", "), ", "), err)
	}
	f.last = next
	return nil
}

func (m Material) equal(other Material) bool {
	return string(m.Certificate) == string(other.Certificate) && string(m.Key) == string(other.Key) &&
		string(m.Authorities) == string(other.Authorities)
}

// Start implements manager.Runnable. Files that cannot be used, for example because somebody is writing them, change
// nothing; the same problem is logged once.
func (f *Files) Start(ctx context.Context) error {
	ticker := f.Clock.NewTicker(f.Every)
	defer ticker.Stop()
	var said error
	for {
		err := f.Load()
		if err != nil && (said == nil || said.Error() != err.Error()) {
			f.Log.Error(err, "Cannot use the certificate files; what was in force stays")
		}
		said = err
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica serves.
func (*Files) NeedLeaderElection() bool { return false }
