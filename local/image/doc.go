// Package image is the node's store of unpacked images. A reference and a pull
// policy come in; out goes a folder with the image's files, unpacked once per
// digest and shared by all containers of it, and the image's configuration
// (entrypoint, environment, user, working directory). The folder is never
// written to again.
//
// Layers are applied in order with whiteouts and hard links, and nothing in them
// can reach outside the folder. Pulls of the same reference at the same time
// share one download. local/node calls it; errors keep the registry's own words.
package image
