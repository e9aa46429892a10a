// Package helm has tests run the Helm that test/harness/tools/helm pins, which is built once and found again.
package helm
