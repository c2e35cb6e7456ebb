// Entities whose fields are signals: one number that changes touches one text node.
import { batch, signal, type Signal } from '@preact/signals';

export class Entity<T extends object> {
  #fields = new Map<keyof T, Signal<unknown>>();

  constructor(readonly id: string, first: T) {
    this.patch(first);
  }

  #field(name: keyof T): Signal<unknown> {
    let field = this.#fields.get(name);
    if (!field) this.#fields.set(name, (field = signal<unknown>(undefined)));
    return field;
  }

  /** The field's value; who reads it is told when it changes. */
  get<K extends keyof T>(name: K): T[K] {
    return this.#field(name).value as T[K];
  }

  /** Without being told. */
  peek<K extends keyof T>(name: K): T[K] {
    return this.#field(name).peek() as T[K];
  }

  /** All fields at this moment, for one who came later. */
  plain(): T {
    return Object.fromEntries([...this.#fields].map(([name, field]) => [name, field.peek()])) as T;
  }

  patch(fields: Partial<T>) {
    for (const name of Object.keys(fields) as (keyof T)[]) {
      const field = this.#field(name);
      const value = fields[name];
      // Lists and objects come only when they differ; a snapshot repeats them.
      if (typeof value !== 'object' || JSON.stringify(field.peek()) !== JSON.stringify(value)) field.value = value;
    }
  }
}

export class Table<T extends object> {
  #entities = new Map<string, Entity<T>>();
  /** Changes only when something comes or goes. */
  readonly all = signal<readonly Entity<T>[]>([]);

  get(id: string | null | undefined): Entity<T> | undefined {
    void this.all.value;
    return id == null ? undefined : this.#entities.get(id);
  }

  /** Without being told of changes. */
  has(id: string): boolean {
    return this.#entities.has(id);
  }

  plain(): Record<string, T> {
    return Object.fromEntries([...this.#entities].map(([id, entity]) => [id, entity.plain()]));
  }

  /** What is not in it is gone. */
  replace(entities: Record<string, T>) {
    const gone = [...this.#entities.keys()].filter((id) => !(id in entities));
    this.patch({ ...Object.fromEntries(gone.map((id) => [id, null])), ...entities });
  }

  patch(changes: Record<string, Partial<T> | null>) {
    batch(() => {
      let differs = false;
      for (const [id, fields] of Object.entries(changes)) {
        const known = this.#entities.get(id);
        if (fields === null) differs = this.#entities.delete(id) || differs;
        else if (known) known.patch(fields);
        else {
          this.#entities.set(id, new Entity<T>(id, fields as T));
          differs = true;
        }
      }
      if (differs) this.all.value = [...this.#entities.values()];
    });
  }
}
