// Package upgrade tests that an upgrade of the definitions keeps what was written before. testdata has, in a directory for
// each release, the definitions of that release and objects which have every field of them.
package upgrade
