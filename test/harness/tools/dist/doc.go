// Command dist makes what a release consists of, in a directory: install.yaml and install-before-1.36.yaml, the archive of the chart, the
// image for several platforms as an archive of an OCI layout, an SBOM, and the checksums of all of these. It needs Go and no container
// engine. From one commit it makes the same files, bit by bit, wherever and whenever it runs: the time in them is SOURCE_DATE_EPOCH.
package main
