<?php
// Shows a lease file the way the router's status page does (AST-118, AST-120):
// lines of at most 1,023 octets, split at every colon, sorted by the text of
// the external port. Prints the rows as JSON.
$rows = [];
$file = fopen($argv[1], 'r');
while (($line = fgets($file, 1024)) !== false) {
    $field = explode(':', trim($line));
    if (count($field) < 5) {
        continue;
    }
    $rows[] = [
        'port' => $field[1],
        'protocol' => $field[0],
        'address' => $field[2],
        'local' => $field[3],
        'expires' => $field[4] > time() ? date('Y-m-d H:i:s', (int) $field[4]) : 'N/A',
        'text' => $field[5] ?? '',
    ];
}
usort($rows, fn ($a, $b) => strcmp($a['port'], $b['port']));
echo json_encode($rows, JSON_THROW_ON_ERROR);
