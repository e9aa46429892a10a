// Package launch has the tests of launchers against a real API server: each passes the suite of package launchtest, whatever its
// cloud does to it.
package launch
