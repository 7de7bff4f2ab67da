/* The smallest program around libprobe.a. */
int probe(void);

int main(void) { return probe(); }
