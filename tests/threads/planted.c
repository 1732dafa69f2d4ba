/* A race, by which .ci/sanitize-threads shows that it would find one: planted.py calls it from two threads. */
void plant(int times);

int planted;

void plant(int times)
{
    while (times-- > 0)
        planted++;
}
