// Package upgrade tests that an upgrade keeps what was there before. testdata has, in a directory for each release, the
// definitions of that release, objects which have every field of them, and the rights that its programs had.
package upgrade
