package sandbox

// oldDenied are calls to deny that only older architectures have.
var oldDenied []uint32
